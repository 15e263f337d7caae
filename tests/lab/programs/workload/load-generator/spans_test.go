// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func failure(t *testing.T, code codes.Code, after time.Duration) error {
	answer := status.New(code, "no")
	if after > 0 {
		detailed, err := answer.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
		if err != nil {
			t.Fatal(err)
		}
		answer = detailed
	}
	return answer.Err()
}

func TestRetryable(t *testing.T) {
	for _, row := range []struct {
		code  codes.Code
		after time.Duration
		retry bool
		exact time.Duration
	}{
		{codes.Unavailable, 0, true, 0},
		{codes.Unavailable, time.Second, true, time.Second},
		{codes.DeadlineExceeded, 0, true, 0},
		{codes.Canceled, 0, true, 0},
		{codes.Aborted, 0, true, 0},
		{codes.OutOfRange, 0, true, 0},
		{codes.DataLoss, 0, true, 0},
		{codes.ResourceExhausted, 0, false, 0},
		{codes.ResourceExhausted, time.Second, true, time.Second},
		{codes.InvalidArgument, 0, false, 0},
		{codes.InvalidArgument, time.Second, false, 0},
		{codes.Unimplemented, 0, false, 0},
		{codes.Internal, 0, false, 0},
		{codes.Unknown, 0, false, 0},
	} {
		err := retryable(failure(t, row.code, row.after))
		var permanent *backoff.PermanentError
		var after *backoff.RetryAfterError
		if errors.As(err, &permanent) == row.retry {
			t.Errorf("%s after %s: %v", row.code, row.after, err)
		}
		if found := errors.As(err, &after); found != (row.exact > 0) || found && after.Duration != row.exact {
			t.Errorf("%s after %s: pause %v", row.code, row.after, after)
		}
		if status.Code(err) != row.code {
			t.Errorf("%s became %s", row.code, status.Code(err))
		}
	}
	if retryable(nil) != nil {
		t.Error("no error is one")
	}
}

func TestMaker(t *testing.T) {
	burst := burst{run: "run-1", service: "lab-spans", perTrace: 4}
	maker := newMaker(&burst)
	var spans []*otlp.Span
	for first := 0; first < 12; first += 3 { // traces go over the ends of batches
		spans = append(spans, maker.request(first, 3, time.Unix(1, 0)).ResourceSpans[0].ScopeSpans[0].Spans...)
	}
	traces, ids := map[string]int{}, map[string]bool{}
	for index, span := range spans {
		traces[string(span.TraceId)]++
		ids[string(span.SpanId)] = true
		if len(span.TraceId) != 16 || len(span.SpanId) != 8 {
			t.Errorf("identifiers of span %d: %x %x", index, span.TraceId, span.SpanId)
		}
		root := spans[index/4*4]
		if string(span.TraceId) != string(root.TraceId) || (span == root) != (span.ParentSpanId == nil) || span != root && string(span.ParentSpanId) != string(root.SpanId) {
			t.Errorf("span %d: trace %x, parent %x", index, span.TraceId, span.ParentSpanId)
		}
		if span.Attributes[0].Value.GetStringValue() != "run-1" || span.Attributes[1].Value.GetIntValue() != int64(index) {
			t.Errorf("span %d: %v", index, span.Attributes)
		}
	}
	if len(traces) != 3 || len(ids) != 12 {
		t.Errorf("%d traces, %d spans", len(traces), len(ids))
	}
}

func TestCheckBurst(t *testing.T) {
	for rate, batch := range map[int]int{1: 1, 9: 1, 200: 20, 10_000: 1000, 50_000: 1000} {
		burst := burst{rate: rate, count: 1, perTrace: 1, inFlight: 1}
		if err := burst.check(); err != nil || burst.batch != batch || burst.run == "" {
			t.Errorf("rate %d: %+v, %v", rate, burst, err)
		}
	}
	for want, wrong := range map[string]burst{
		"--rate":            {rate: 0, count: 1, perTrace: 1, inFlight: 1},
		"--count":           {rate: 1, count: 0, perTrace: 1, inFlight: 1},
		"--spans-per-trace": {rate: 1, count: 1, inFlight: 1},
		"--in-flight":       {rate: 1, count: 1, perTrace: 1},
		"--batch":           {rate: 1, count: 1, perTrace: 1, inFlight: 1, batch: -1},
		"--retry-for":       {rate: 1, count: 1, perTrace: 1, inFlight: 1, retryFor: -1},
	} {
		if err := wrong.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// receiver answers export requests with what `answer` says to the n-th.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	answer func(n int, spans int) (*collector.ExportTraceServiceResponse, error)
	mutex  sync.Mutex
	calls  int
	spans  int
}

func (r *receiver) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	n, spans := r.calls, len(request.ResourceSpans[0].ScopeSpans[0].Spans)
	r.calls++
	answer, err := r.answer(n, spans)
	if err == nil {
		r.spans += spans
	}
	return answer, err
}

func (r *receiver) start(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func TestSend(t *testing.T) {
	fine := &collector.ExportTraceServiceResponse{}
	for name, row := range map[string]struct {
		answer                     func(n, spans int) (*collector.ExportTraceServiceResponse, error)
		accepted, refused, retries int64
		why                        string
	}{
		"accepted": {func(int, int) (*collector.ExportTraceServiceResponse, error) { return fine, nil }, 95, 0, 0, ""},
		"again": {func(n, _ int) (*collector.ExportTraceServiceResponse, error) {
			if n == 0 {
				return nil, failure(t, codes.Unavailable, 0)
			}
			return fine, nil
		}, 95, 0, 1, ""},
		"refused": {func(n, _ int) (*collector.ExportTraceServiceResponse, error) {
			if n == 0 {
				return nil, failure(t, codes.InvalidArgument, 0)
			}
			return fine, nil
		}, 85, 10, 0, "InvalidArgument"},
		"in part": {func(n, _ int) (*collector.ExportTraceServiceResponse, error) {
			if n == 0 {
				return &collector.ExportTraceServiceResponse{PartialSuccess: &collector.ExportTracePartialSuccess{RejectedSpans: 3}}, nil
			}
			return fine, nil
		}, 92, 3, 0, "partial_success"},
	} {
		t.Run(name, func(t *testing.T) {
			to := &receiver{answer: row.answer}
			burst := burst{endpoint: to.start(t), rate: 500, count: 95, batch: 10, perTrace: 1, inFlight: 4, retryFor: 5 * time.Second, run: "r"}
			got, err := burst.send(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Sent != 95 || got.Accepted != row.accepted || got.Refused != row.refused || got.Retries != row.retries {
				t.Errorf("%+v", got)
			}
			if row.why != "" && got.Errors[row.why] != row.refused || row.why == "" && len(got.Errors) != 0 {
				t.Errorf("errors %v", got.Errors)
			}
			// The last batch is due after 90 spans of 500 in a second.
			if got.Seconds < 0.18 || got.Seconds > 2 {
				t.Errorf("%f s", got.Seconds)
			}
		})
	}
}

func TestSendWithoutReceiver(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	burst := burst{endpoint: listener.Addr().String(), rate: 100, count: 10, batch: 10, perTrace: 1, inFlight: 1, retryFor: 0, run: "r"}
	got, err := burst.send(t.Context())
	if err != nil || got.Accepted != 0 || got.Refused != 10 || got.Errors["Unavailable"] != 10 || got.Retries != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
