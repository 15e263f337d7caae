// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/genaiconv"
	"go.opentelemetry.io/otel/trace"
)

const (
	route = "/v1/chat/completions"
	// tooLong is a length that no model's context has, so every server refuses the request.
	tooLong        = 100_000_000
	requestTimeout = 60 * time.Second
)

// traffic is chat requests to models at a set rate.
type traffic struct {
	models                                     models
	rate                                       float64
	concurrency, maxTokens                     int
	retrievalEvery, failureEvery, contentEvery int
	telemetry                                  *telemetry
	client                                     http.Client
}

// totals is what happened to the requests.
type totals struct {
	Sent      int64   `json:"sent"`
	Succeeded int64   `json:"succeeded"`
	Failed    int64   `json:"failed"`
	Skipped   int64   `json:"skipped"`
	Seconds   float64 `json:"seconds"`
}

// plan is what one request is to be.
type plan struct {
	model                       model
	question                    string
	retrieval, failure, content bool
}

func (t *traffic) check() error {
	switch {
	case len(t.models) == 0:
		return errors.New("chat: no --model given")
	case t.rate <= 0 || t.rate > 1000:
		return fmt.Errorf("chat: --rate %g is not above 0 and at most 1000", t.rate)
	case t.concurrency < 1:
		return fmt.Errorf("chat: --concurrency %d is below 1", t.concurrency)
	case t.maxTokens < 4:
		return fmt.Errorf("chat: --max-tokens %d is below 4", t.maxTokens)
	case min(t.retrievalEvery, t.failureEvery, t.contentEvery) < 0:
		return errors.New("chat: --retrieval-every, --failure-every and --content-every may not be below 0")
	}
	return nil
}

// plan says what the n-th request is. Models take turns, and every model gets all kinds of requests; its first one has them all
// but the failure, so that a short run shows them.
func (t *traffic) plan(n int) plan {
	turn := n / len(t.models)
	is := func(every, at int) bool { return every > 0 && turn%every == at }
	return plan{
		model:     t.models[n%len(t.models)],
		question:  questions[turn%len(questions)],
		retrieval: is(t.retrievalEvery, 0),
		failure:   is(t.failureEvery, t.failureEvery-1),
		content:   is(t.contentEvery, 0),
	}
}

// run sends requests until ctx ends, and waits for those under way.
func (t *traffic) run(ctx context.Context) totals {
	var sum totals
	var succeeded, failed atomic.Int64
	var under sync.WaitGroup
	free := make(chan struct{}, t.concurrency)
	begun := time.Now()
	ticks := time.NewTicker(time.Duration(float64(time.Second) / t.rate))
	defer ticks.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticks.C:
			select {
			case free <- struct{}{}:
			default:
				sum.Skipped++
				continue
			}
			planned := t.plan(int(sum.Sent))
			sum.Sent++
			under.Go(func() {
				defer func() { <-free }()
				// A request under way is ended in order, not cut off with the rest.
				limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
				defer cancel()
				if err := t.request(limited, planned); err != nil {
					failed.Add(1)
					if !planned.failure {
						log.Printf("%s: %v", planned.model.name, err)
					}
					return
				}
				succeeded.Add(1)
			})
		}
	}
	under.Wait()
	sum.Succeeded, sum.Failed, sum.Seconds = succeeded.Load(), failed.Load(), time.Since(begun).Seconds()
	return sum
}

// request sends one request and its trace: the gateway's server span, below it retrieval and chat, below chat the model's.
func (t *traffic) request(ctx context.Context, planned plan) error {
	ctx, gateway := t.telemetry.gateway.Start(ctx, "POST "+route, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		semconv.HTTPRequestMethodPost, semconv.HTTPRoute(route), semconv.URLPath(route), semconv.URLScheme("http"),
	))
	defer gateway.End()
	asked := chatRequest{
		Model:         planned.model.name,
		MaxTokens:     t.maxTokens/4 + rand.IntN(t.maxTokens-t.maxTokens/4+1),
		Stream:        true,
		StreamOptions: streamOptions{IncludeUsage: true},
	}
	if planned.failure {
		asked.MaxTokens = tooLong
	}
	if planned.retrieval {
		asked.Messages = append(asked.Messages, message{"system", t.retrieve(ctx, planned)})
	}
	asked.Messages = append(asked.Messages, message{"user", planned.question})
	_, err := t.chat(ctx, planned, asked)
	if err == nil {
		gateway.SetAttributes(semconv.HTTPResponseStatusCode(http.StatusOK))
		return nil
	}
	// As HTTP's conventions have it: what the client did wrong is no error of the server's.
	status := http.StatusBadGateway
	if refused := new(statusError); errors.As(err, &refused) {
		status = refused.status
	}
	gateway.SetAttributes(semconv.HTTPResponseStatusCode(status), semconv.ErrorTypeKey.String(errorType(err)))
	if status >= http.StatusInternalServerError {
		gateway.SetStatus(codes.Error, err.Error())
	}
	return err
}

// retrieve looks documents up for a question and returns them as a system message.
func (t *traffic) retrieve(ctx context.Context, planned plan) string {
	_, span := t.telemetry.gateway.Start(ctx, "retrieval "+dataSource, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.GenAIOperationNameRetrieval, semconv.GenAIDataSourceID(dataSource),
		attribute.String("peer.service", dataSource), // by which service maps name a callee that sends no spans
	))
	defer span.End()
	found := retrieve(planned.question)
	if planned.content {
		span.SetAttributes(semconv.GenAIRetrievalQueryText(planned.question), jsonAttribute(semconv.GenAIRetrievalDocumentsKey, found))
	}
	var text strings.Builder
	text.WriteString("Answer from these documents:")
	for _, document := range found {
		text.WriteString("\n" + documents[document.ID])
	}
	return text.String()
}

// chat is the GenAI client span of a completion, and the model's server span below it.
func (t *traffic) chat(ctx context.Context, planned plan, asked chatRequest) (completion, error) {
	port, _ := strconv.Atoi(planned.model.base.Port())
	if port == 0 {
		port = map[string]int{"http": 80, "https": 443}[planned.model.base.Scheme]
	}
	where := []attribute.KeyValue{semconv.ServerAddress(planned.model.base.Hostname()), semconv.ServerPort(port)}
	common := append([]attribute.KeyValue{semconv.GenAIRequestModel(asked.Model)}, where...)
	ctx, span := t.telemetry.gateway.Start(ctx, "chat "+asked.Model, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(common...),
		trace.WithAttributes(
			semconv.GenAIOperationNameChat, semconv.GenAIProviderNameKey.String(string(provider)),
			semconv.GenAIRequestMaxTokens(asked.MaxTokens), semconv.GenAIRequestStream(true),
		))
	defer span.End()
	if planned.content {
		span.SetAttributes(contentOf(asked)...)
	}
	begun := time.Now()
	answer, err := complete(ctx, &t.client, planned.model, asked)
	ended := time.Now()
	t.model(ctx, asked, answer, err, begun, ended)
	if err != nil {
		common = append(common, semconv.ErrorTypeKey.String(errorType(err)))
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
		span.SetStatus(codes.Error, err.Error())
		t.telemetry.duration.Record(ctx, ended.Sub(begun).Seconds(), genaiconv.OperationNameChat, provider, common...)
		return answer, err
	}
	span.SetAttributes(
		semconv.GenAIResponseModel(answer.model), semconv.GenAIResponseID(answer.id), semconv.GenAIResponseFinishReasons(answer.finishReason),
		semconv.GenAIResponseTimeToFirstChunk(answer.firstChunk.Seconds()),
		semconv.GenAIUsageInputTokens(answer.usage.PromptTokens), semconv.GenAIUsageOutputTokens(answer.usage.CompletionTokens),
	)
	if planned.content {
		span.SetAttributes(jsonAttribute(semconv.GenAIOutputMessagesKey, []any{contentMessage{
			Role: "assistant", Parts: parts(answer.text), FinishReason: answer.finishReason,
		}}))
	}
	common = append(common, semconv.GenAIResponseModel(answer.model))
	t.telemetry.duration.Record(ctx, ended.Sub(begun).Seconds(), genaiconv.OperationNameChat, provider, common...)
	t.telemetry.tokens.Record(ctx, int64(answer.usage.PromptTokens), genaiconv.OperationNameChat, provider, genaiconv.TokenTypeInput, common...)
	t.telemetry.tokens.Record(ctx, int64(answer.usage.CompletionTokens), genaiconv.OperationNameChat, provider, genaiconv.TokenTypeOutput, common...)
	return answer, nil
}

// model makes the span that vLLM itself would send, with its name and its attributes, as far as a client can know them.
// ctx is that of the client span.
func (t *traffic) model(ctx context.Context, asked chatRequest, answer completion, err error, begun, ended time.Time) {
	tracer := t.telemetry.server(server{asked.Model, answer.pod, answer.namespace})
	_, span := tracer.Start(ctx, "llm_request", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(begun), trace.WithAttributes(
		semconv.GenAIOperationNameChat, semconv.GenAIRequestModel(asked.Model), semconv.GenAIRequestMaxTokens(asked.MaxTokens),
	))
	if err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
		span.SetStatus(codes.Error, err.Error())
	} else {
		span.SetAttributes(
			semconv.GenAIResponseModel(answer.model), attribute.String("gen_ai.request.id", answer.id),
			attribute.Float64("gen_ai.latency.time_to_first_token", answer.firstChunk.Seconds()),
			attribute.Float64("gen_ai.latency.e2e", ended.Sub(begun).Seconds()),
			attribute.Int("gen_ai.usage.prompt_tokens", answer.usage.PromptTokens),
			attribute.Int("gen_ai.usage.completion_tokens", answer.usage.CompletionTokens),
		)
	}
	span.End(trace.WithTimestamp(ended))
}

// contentMessage and contentPart have the shape that the conventions give to gen_ai.input.messages and gen_ai.output.messages.
type contentMessage struct {
	Role         string        `json:"role"`
	Parts        []contentPart `json:"parts"`
	FinishReason string        `json:"finish_reason,omitempty"`
}

type contentPart struct {
	Type    string `json:"type"`
	Content string `json:"content"`
}

func parts(text string) []contentPart { return []contentPart{{"text", text}} }

// contentOf is a request's content as attributes: what people wrote, which a collector should take out.
func contentOf(asked chatRequest) []attribute.KeyValue {
	var attributes []attribute.KeyValue
	var input []contentMessage
	for _, message := range asked.Messages {
		if message.Role == "system" {
			attributes = append(attributes, jsonAttribute(semconv.GenAISystemInstructionsKey, parts(message.Content)))
			continue
		}
		input = append(input, contentMessage{Role: message.Role, Parts: parts(message.Content)})
	}
	return append(attributes, jsonAttribute(semconv.GenAIInputMessagesKey, input))
}

func jsonAttribute(key attribute.Key, value any) attribute.KeyValue {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return key.String(string(text))
}
