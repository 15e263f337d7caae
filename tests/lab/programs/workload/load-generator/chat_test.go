// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const stream = `data: {"id":"chatcmpl-1","model":"mistral-24b","choices":[{"delta":{"role":"assistant","content":""}}]}

: a comment
data: {"id":"chatcmpl-1","model":"mistral-24b","choices":[{"delta":{"content":"Good "}}]}

data: {"id":"chatcmpl-1","model":"mistral-24b","choices":[{"delta":{"content":"day"},"finish_reason":"stop"}]}

data: {"id":"chatcmpl-1","model":"mistral-24b","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}

data: [DONE]
`

func TestReadStream(t *testing.T) {
	want := completion{id: "chatcmpl-1", model: "mistral-24b", text: "Good day", finishReason: "stop", usage: usage{7, 2}, firstChunk: time.Second}
	for name, stream := range map[string]string{"with end marker": stream, "without": strings.ReplaceAll(stream, "data: [DONE]", "")} {
		reads := 0
		clock := func() time.Duration { reads++; return time.Duration(reads) * time.Second }
		var got completion
		if err := got.read(strings.NewReader(stream), clock); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
}

func TestReadStreamThatBreaks(t *testing.T) {
	for name, row := range map[string]struct{ stream, want string }{
		"without end":  {stream[:strings.Index(stream, `{"content":"day"}`)] + "\n", "not JSON"},
		"without last": {strings.Join(strings.SplitAfter(stream, "\n\n")[:2], ""), "unexpected EOF"},
		"not JSON":     {"data: {", "event that is not JSON"},
		"endless line": {"data: " + strings.Repeat("x", longestEvent+1), "token too long"},
		"empty":        {"", "unexpected EOF"},
		"refused":      {`data: {"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}` + "\n\ndata: [DONE]\n", "HTTP 400: too long"},
		"broken off":   {`data: {"error":{"message":"gone","code":null}}` + "\n", "HTTP 500: gone"},
	} {
		if err := new(completion).read(strings.NewReader(row.stream), func() time.Duration { return 1 }); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
}

func TestPlan(t *testing.T) {
	chat := traffic{models: models{{name: "a"}, {name: "b"}}, retrievalEvery: 3, failureEvery: 20, contentEvery: 10}
	count := map[string]int{}
	for n := range 120 { // 60 of each model
		planned := chat.plan(n)
		for kind, is := range map[string]bool{"": true, " retrieval": planned.retrieval, " failure": planned.failure, " content": planned.content} {
			if is {
				count[planned.model.name+kind]++
			}
		}
	}
	want := map[string]int{}
	for _, name := range []string{"a", "b"} {
		want[name], want[name+" retrieval"], want[name+" failure"], want[name+" content"] = 60, 20, 3, 6
	}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", count, want)
	}
	if first := chat.plan(0); !first.retrieval || !first.content || first.failure {
		t.Errorf("the first request is %+v", first)
	}
	chat.retrievalEvery, chat.failureEvery, chat.contentEvery = 0, 0, 0
	if none := chat.plan(0); none.retrieval || none.content || none.failure {
		t.Errorf("nothing was asked for, but got %+v", none)
	}
}

func TestRetrieve(t *testing.T) {
	for _, question := range questions {
		found := retrieve(question)
		best := func(a, b document) int { return cmp.Compare(b.Score, a.Score) }
		if len(found) == 0 || len(found) > topDocuments || !slices.IsSortedFunc(found, best) || found[0].Score > 1 {
			t.Errorf("%s: %v", question, found)
		}
	}
	if best := retrieve("How many samples does an evaluation need for a small standard error?")[0].ID; best != "evaluation" {
		t.Errorf("got %s", best)
	}
	if found := retrieve("?"); len(found) != 0 {
		t.Errorf("a question without words finds %v", found)
	}
}

func TestFlagModel(t *testing.T) {
	var got models
	if err := got.Set("mistral-24b=http://models.example:8080/base"); err != nil || got[0].name != "mistral-24b" || got[0].base.Host != "models.example:8080" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, wrong := range []string{"", "mistral-24b", "=http://models.example", "mistral-24b=models.example", "mistral-24b=ftp://models.example", "m=http://%"} {
		if err := got.Set(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestCheckTraffic(t *testing.T) {
	right := traffic{models: models{{name: "a"}}, rate: 2, concurrency: 1, maxTokens: 4}
	if err := right.check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*traffic){
		"--model":       func(t *traffic) { t.models = nil },
		"--rate":        func(t *traffic) { t.rate = 0 },
		"--concurrency": func(t *traffic) { t.concurrency = 0 },
		"--max-tokens":  func(t *traffic) { t.maxTokens = 3 },
		"may not be":    func(t *traffic) { t.failureEvery = -1 },
	} {
		wrong := traffic{models: right.models, rate: right.rate, concurrency: right.concurrency, maxTokens: right.maxTokens}
		change(&wrong)
		if err := wrong.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// serve answers as the simulator does: a stream, and in it the error of what is too long.
func serve(t *testing.T) model {
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		var asked chatRequest
		if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		if !asked.Stream || !asked.StreamOptions.IncludeUsage || request.Header.Get("Traceparent") == "" || request.URL.Path != route {
			t.Errorf("%s %v %+v", request.URL, request.Header, asked)
		}
		writer.Header().Set("x-inference-pod", "mistral-24b-predictor-0")
		writer.Header().Set("x-inference-namespace", "private-ai-demo")
		if asked.MaxTokens == tooLong {
			io.WriteString(writer, `data: {"error":{"message":"too long","code":400}}`+"\n\ndata: [DONE]\n")
			return
		}
		io.WriteString(writer, stream)
	}))
	t.Cleanup(server.Close)
	base, _ := url.Parse(server.URL)
	return model{"mistral-24b", base}
}

func attributesOf(span sdktrace.ReadOnlySpan) map[attribute.Key]attribute.Value {
	set := map[attribute.Key]attribute.Value{}
	for _, pair := range slices.Concat(span.Attributes(), span.Resource().Attributes()) {
		set[pair.Key] = pair.Value
	}
	return set
}

func TestTraceOfARequest(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	reader := sdkmetric.NewManualReader()
	telemetry, err := assemble(spans, reader)
	if err != nil {
		t.Fatal(err)
	}
	chat := traffic{maxTokens: 64, telemetry: telemetry}
	to := serve(t)
	if err := chat.request(t.Context(), plan{model: to, question: questions[0], retrieval: true, content: true}); err != nil {
		t.Fatal(err)
	}
	byName := map[string]sdktrace.ReadOnlySpan{}
	for _, span := range spans.Ended() {
		byName[span.Name()] = span
	}
	gateway, retrieval, client, server := byName["POST "+route], byName["retrieval lab-documents"], byName["chat mistral-24b"], byName["llm_request"]
	if len(byName) != 4 || gateway == nil || retrieval == nil || client == nil || server == nil {
		t.Fatalf("got spans %v", byName)
	}
	for _, row := range []struct {
		span    sdktrace.ReadOnlySpan
		parent  trace.SpanID
		kind    trace.SpanKind
		service string
	}{
		{gateway, trace.SpanID{}, trace.SpanKindServer, "lab-gateway"},
		{retrieval, gateway.SpanContext().SpanID(), trace.SpanKindClient, "lab-gateway"},
		{client, gateway.SpanContext().SpanID(), trace.SpanKindClient, "lab-gateway"},
		{server, client.SpanContext().SpanID(), trace.SpanKindServer, "mistral-24b"},
	} {
		if row.span.Parent().SpanID() != row.parent || row.span.SpanKind() != row.kind || attributesOf(row.span)["service.name"].AsString() != row.service {
			t.Errorf("%s: parent %s, kind %s, %v", row.span.Name(), row.span.Parent().SpanID(), row.span.SpanKind(), row.span.Resource())
		}
		if row.span.SpanContext().TraceID() != gateway.SpanContext().TraceID() {
			t.Errorf("%s is of another trace", row.span.Name())
		}
	}
	of := attributesOf(client)
	for key, want := range map[attribute.Key]string{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "mistral-24b",
		"gen_ai.response.model": "mistral-24b", "gen_ai.usage.input_tokens": "7", "gen_ai.usage.output_tokens": "2",
		"gen_ai.response.finish_reasons": `["stop"]`, "server.address": "127.0.0.1", "server.port": to.base.Port(),
		"gen_ai.output.messages": `[{"role":"assistant","parts":[{"type":"text","content":"Good day"}],"finish_reason":"stop"}]`,
		"gen_ai.input.messages":  `[{"role":"user","parts":[{"type":"text","content":"` + questions[0] + `"}]}]`,
	} {
		if got := of[key]; got.Emit() != want {
			t.Errorf("%s: got %s, want %s", key, got.Emit(), want)
		}
	}
	if !strings.Contains(of["gen_ai.system_instructions"].AsString(), documents["time-to-first-token"]) {
		t.Errorf("no documents in %s", of["gen_ai.system_instructions"].AsString())
	}
	if got := attributesOf(retrieval)["gen_ai.retrieval.query.text"].AsString(); got != questions[0] {
		t.Errorf("query %s", got)
	}
	if of := attributesOf(server); of["k8s.pod.name"].AsString() != "mistral-24b-predictor-0" || of["k8s.namespace.name"].AsString() != "private-ai-demo" {
		t.Errorf("server %v", of)
	}
	if !server.StartTime().Before(server.EndTime()) || server.StartTime().Before(client.StartTime()) || server.EndTime().After(client.EndTime()) {
		t.Error("the server's span is not inside the client's")
	}
	var metrics metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &metrics); err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, metric := range metrics.ScopeMetrics[0].Metrics {
		switch data := metric.Data.(type) {
		case metricdata.Histogram[float64]:
			sums[metric.Name] = int64(data.DataPoints[0].Count)
		case metricdata.Histogram[int64]:
			for _, point := range data.DataPoints {
				kind, _ := point.Attributes.Value("gen_ai.token.type")
				sums[metric.Name+" "+kind.AsString()] = point.Sum
			}
		}
	}
	want := map[string]int64{"gen_ai.client.operation.duration": 1, "gen_ai.client.token.usage input": 7, "gen_ai.client.token.usage output": 2}
	if fmt.Sprint(sums) != fmt.Sprint(want) {
		t.Errorf("metrics %v, want %v", sums, want)
	}
}

func TestTraceOfARefusedRequest(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	telemetry, err := assemble(spans, sdkmetric.NewManualReader())
	if err != nil {
		t.Fatal(err)
	}
	chat := traffic{maxTokens: 64, telemetry: telemetry}
	if err := chat.request(t.Context(), plan{model: serve(t), question: questions[0], failure: true}); err == nil || err.Error() != "HTTP 400: too long" {
		t.Fatalf("got %v", err)
	}
	status := map[string]codes.Code{}
	for _, span := range spans.Ended() {
		status[span.Name()] = span.Status().Code
		of := attributesOf(span)
		if of["error.type"].AsString() != "400" {
			t.Errorf("%s: error.type %v", span.Name(), of["error.type"].Emit())
		}
		for key := range of {
			if strings.HasSuffix(string(key), "messages") {
				t.Errorf("%s has content", span.Name())
			}
		}
	}
	want := map[string]codes.Code{"POST " + route: codes.Unset, "chat mistral-24b": codes.Error, "llm_request": codes.Error}
	if fmt.Sprint(status) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", status, want)
	}
}

func TestRunCounts(t *testing.T) {
	telemetry, err := assemble(tracetest.NewSpanRecorder(), sdkmetric.NewManualReader())
	if err != nil {
		t.Fatal(err)
	}
	chat := traffic{models: models{serve(t)}, rate: 500, concurrency: 2, maxTokens: 64, failureEvery: 2, telemetry: telemetry}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	sum := chat.run(ctx)
	if sum.Sent < 10 || sum.Succeeded+sum.Failed != sum.Sent || sum.Failed != sum.Sent/2 {
		t.Errorf("%+v", sum)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	connections := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		io.WriteString(writer, stream)
		writer.(http.Flusher).Flush()
		time.Sleep(10 * time.Millisecond) // the end comes after the end marker
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections++
		}
	}
	server.Start()
	defer server.Close()
	base, _ := url.Parse(server.URL)
	for range 3 {
		if _, err := complete(t.Context(), server.Client(), model{"a", base}, chatRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if connections != 1 {
		t.Errorf("%d connections for three requests", connections)
	}
}
