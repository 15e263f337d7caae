// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	largestBatch   = 1000
	attemptTimeout = 10 * time.Second
	spanDuration   = 20 * time.Millisecond
)

// burst is spans at an exact rate. They are sent without an SDK, whose queue would hide what was refused.
type burst struct {
	endpoint, run, service                 string
	rate, count, batch, perTrace, inFlight int
	retryFor                               time.Duration
}

// outcome counts spans: sent = accepted + refused.
type outcome struct {
	Run      string           `json:"run"`
	Sent     int64            `json:"sent"`
	Accepted int64            `json:"accepted"`
	Refused  int64            `json:"refused"`
	Retries  int64            `json:"retries"` // export requests sent again
	Seconds  float64          `json:"seconds"` // from the first request to the last answer
	Errors   map[string]int64 `json:"errors"`  // spans refused, by gRPC code, or partial_success
}

// check fills defaults in that follow from other flags.
func (b *burst) check() error {
	switch {
	case b.rate < 1 || b.count < 1:
		return fmt.Errorf("spans: --rate %d and --count %d must be 1 or more", b.rate, b.count)
	case b.batch < 0 || b.perTrace < 1 || b.inFlight < 1:
		return errors.New("spans: --batch must be 0 or more, --spans-per-trace and --in-flight 1 or more")
	case b.retryFor < 0:
		return fmt.Errorf("spans: --retry-for %s is below 0", b.retryFor)
	}
	if b.batch == 0 {
		b.batch = max(1, min(b.rate/10, largestBatch))
	}
	if b.run == "" {
		b.run = crand.Text()
	}
	return nil
}

// send sends all spans; ctx's end stops it early, which the outcome shows.
func (b *burst) send(ctx context.Context) (outcome, error) {
	connection, err := grpc.NewClient(target(b.endpoint), grpc.WithTransportCredentials(insecure.NewCredentials()), reconnect)
	if err != nil {
		return outcome{}, err
	}
	defer connection.Close()
	client := collector.NewTraceServiceClient(connection)

	result := outcome{Run: b.run, Errors: map[string]int64{}}
	var mutex sync.Mutex
	var under sync.WaitGroup
	free := make(chan struct{}, b.inFlight)
	maker := newMaker(b)
	begun := time.Now()
	for first := 0; first < b.count; first += b.batch {
		if !waitUntil(ctx, begun.Add(due(first, b.rate))) || !acquire(ctx, free) {
			break
		}
		size := min(b.batch, b.count-first)
		request := maker.request(first, size, time.Now())
		result.Sent += int64(size)
		under.Go(func() {
			defer func() { <-free }()
			rejected, retries, err := export(ctx, client, request, b.retryFor)
			mutex.Lock()
			defer mutex.Unlock()
			result.Retries += retries
			if err != nil {
				result.Refused += int64(size)
				result.Errors[status.Code(err).String()] += int64(size)
				return
			}
			result.Accepted += int64(size) - rejected
			if rejected > 0 {
				result.Refused += rejected
				result.Errors["partial_success"] += rejected
			}
		})
	}
	under.Wait()
	result.Seconds = time.Since(begun).Seconds()
	return result, nil
}

// due is when a span is to be sent, from the start.
func due(index, rate int) time.Duration {
	return time.Duration(float64(index) / float64(rate) * float64(time.Second))
}

func waitUntil(ctx context.Context, moment time.Time) bool {
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func acquire(ctx context.Context, free chan<- struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case free <- struct{}{}:
		return true
	}
}

// export sends one request as OTLP asks its clients to: codes that may heal are retried, with the pause that the server names
// or a growing one. It returns how many spans the server says it rejected, and how often it was sent again.
func export(ctx context.Context, client collector.TraceServiceClient, request *collector.ExportTraceServiceRequest, retryFor time.Duration) (rejected, retries int64, err error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 5*time.Second
	options := []backoff.RetryOption{
		backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(retryFor), backoff.WithNotify(func(error, time.Duration) { retries++ }),
	}
	if retryFor == 0 { // which backoff takes for no limit
		options = append(options, backoff.WithMaxTries(1))
	}
	answer, err := backoff.Retry(ctx, func() (*collector.ExportTraceServiceResponse, error) {
		limited, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		answer, err := client.Export(limited, request)
		return answer, retryable(err)
	}, options...)
	return answer.GetPartialSuccess().GetRejectedSpans(), retries, err
}

// retryable marks an error of an export as OTLP's specification sorts them ("Failures" of OTLP/gRPC).
func retryable(err error) error {
	if err == nil {
		return nil
	}
	answer := status.Convert(err)
	var after time.Duration
	named := false
	for _, detail := range answer.Details() {
		if info, is := detail.(*errdetails.RetryInfo); is {
			after, named = info.GetRetryDelay().AsDuration(), true
		}
	}
	switch answer.Code() {
	case codes.ResourceExhausted: // only a server that says when can recover
		if !named {
			return backoff.Permanent(err)
		}
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
	default:
		return backoff.Permanent(err)
	}
	if named && after > 0 {
		return errors.Join(err, &backoff.RetryAfterError{Duration: after})
	}
	return err
}

// maker makes export requests; it is not for concurrent use.
type maker struct {
	burst   *burst
	traceID []byte
	root    []byte
	common  *common.KeyValue
}

func newMaker(b *burst) *maker { return &maker{burst: b, common: text("lab.run", b.run)} }

// request has spans first to first + size - 1. The first span of each perTrace begins a trace.
func (m *maker) request(first, size int, now time.Time) *collector.ExportTraceServiceRequest {
	end := uint64(now.UnixNano())
	start := end - uint64(spanDuration)
	spans := make([]*otlp.Span, size)
	for i := range spans {
		index := first + i
		span := &otlp.Span{
			SpanId: id(8), Name: "lab span", Kind: otlp.Span_SPAN_KIND_SERVER, StartTimeUnixNano: start, EndTimeUnixNano: end,
			Attributes: []*common.KeyValue{m.common, {Key: "lab.index", Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(index)}}}},
		}
		if index%m.burst.perTrace == 0 {
			m.traceID, m.root = id(16), span.SpanId
		} else {
			span.ParentSpanId, span.Kind = m.root, otlp.Span_SPAN_KIND_INTERNAL
		}
		span.TraceId = m.traceID
		spans[i] = span
	}
	return &collector.ExportTraceServiceRequest{ResourceSpans: []*otlp.ResourceSpans{{
		Resource:   &resource.Resource{Attributes: []*common.KeyValue{text("service.name", m.burst.service)}},
		ScopeSpans: []*otlp.ScopeSpans{{Scope: &common.InstrumentationScope{Name: scope}, Spans: spans}},
	}}}
}

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

// id is a random identifier of some eights of bytes, never all zero.
func id(length int) []byte {
	bytes := make([]byte, 0, length)
	for len(bytes) < length {
		bytes = binary.BigEndian.AppendUint64(bytes, rand.Uint64()|1)
	}
	return bytes
}
