// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/genaiconv"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Version 1.41.0 of the semantic conventions is the last that has those for GenAI; they have a repository of their own since.
const (
	gatewayService = "lab-gateway"
	description    = "load generator of the lab, in place of a gateway such as Llama Stack"
	ofModel        = "span made by the load generator of the lab: the simulated model server sends none"
	scope          = "lab/workload/load-generator"
)

// provider names whose API it is, as the instrumentations of OpenAI's clients do, whatever server answers.
var provider = genaiconv.ProviderNameOpenAI

// What the conventions advise for histograms.
var (
	durationBuckets = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	tokenBuckets    = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
)

// telemetry holds the tracers of all services whose spans the load generator sends, and the gateway's metrics.
type telemetry struct {
	gateway  trace.Tracer
	duration genaiconv.ClientOperationDuration
	tokens   genaiconv.ClientTokenUsage

	spans   sdktrace.SpanProcessor // one for all services: one connection, one queue
	metrics *sdkmetric.MeterProvider
	mutex   sync.Mutex
	servers map[server]trace.Tracer
}

// server is a pod that serves a model.
type server struct{ model, pod, namespace string }

// A collector that comes later, or again, is found within seconds: gRPC's own limit is two minutes.
var reconnect = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: 2 * time.Second,
})

// target is an endpoint whose name is looked up for every connection; gRPC's own resolver pauses for minutes after a name was unknown.
func target(endpoint string) string { return "passthrough:///" + endpoint }

func newTelemetry(ctx context.Context, endpoint string) (*telemetry, error) {
	endpoint = target(endpoint)
	spans, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(endpoint), otlptracegrpc.WithInsecure(), otlptracegrpc.WithDialOption(reconnect))
	if err != nil {
		return nil, err
	}
	metrics, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(endpoint), otlpmetricgrpc.WithInsecure(), otlpmetricgrpc.WithDialOption(reconnect))
	if err != nil {
		return nil, err
	}
	reader := sdkmetric.NewPeriodicReader(metrics, sdkmetric.WithInterval(15*time.Second))
	return assemble(sdktrace.NewBatchSpanProcessor(spans, sdktrace.WithBatchTimeout(time.Second)), reader)
}

func assemble(spans sdktrace.SpanProcessor, reader sdkmetric.Reader) (*telemetry, error) {
	gateway := resource.NewSchemaless(
		semconv.ServiceName(gatewayService), semconv.TelemetrySDKLanguageGo, attribute.String("service.description", description),
	)
	t := &telemetry{spans: spans, servers: map[server]trace.Tracer{}}
	t.gateway = t.tracer(gateway)
	t.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(gateway))
	meter := t.metrics.Meter(scope)
	var wrongDuration, wrongTokens error
	t.duration, wrongDuration = genaiconv.NewClientOperationDuration(meter, metric.WithExplicitBucketBoundaries(durationBuckets...))
	t.tokens, wrongTokens = genaiconv.NewClientTokenUsage(meter, metric.WithExplicitBucketBoundaries(tokenBuckets...))
	return t, errors.Join(wrongDuration, wrongTokens)
}

func (t *telemetry) tracer(of *resource.Resource) trace.Tracer {
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(t.spans), sdktrace.WithResource(of)).Tracer(scope)
}

// server gives the tracer of a model's own service. The lab's simulator of vLLM sends no traces, so its spans are made here
// from what the client saw, with a resource of their own that names the pod that answered.
func (t *telemetry) server(of server) trace.Tracer {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if tracer, found := t.servers[of]; found {
		return tracer
	}
	attributes := []attribute.KeyValue{semconv.ServiceName(of.model), attribute.String("service.description", ofModel)}
	if of.pod != "" {
		attributes = append(attributes, semconv.K8SPodName(of.pod), semconv.ServiceInstanceID(of.pod))
	}
	if of.namespace != "" {
		attributes = append(attributes, semconv.K8SNamespaceName(of.namespace))
	}
	t.servers[of] = t.tracer(resource.NewSchemaless(attributes...))
	return t.servers[of]
}

// shutdown sends what is still queued.
func (t *telemetry) shutdown(ctx context.Context) error {
	return errors.Join(t.spans.Shutdown(ctx), t.metrics.Shutdown(ctx))
}
