// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
)

const longestEvent = 1 << 20 // bytes of one server-sent event

// message is one of OpenAI's chat API.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// chatRequest is the body of a request for a streamed completion.
type chatRequest struct {
	Model         string        `json:"model"`
	Messages      []message     `json:"messages"`
	MaxTokens     int           `json:"max_tokens"`
	Stream        bool          `json:"stream"`
	StreamOptions streamOptions `json:"stream_options"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// usage is what the server counted.
type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// chunk is one event of a streamed completion.
type chunk struct {
	ID      string `json:"id"`
	Model   string `json:"model"`
	Choices []struct {
		Delta        message `json:"delta"`
		FinishReason string  `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage `json:"usage"`
	// A request that is refused once the stream has begun; the status before was 200.
	Error *struct {
		Message string `json:"message"`
		Code    any    `json:"code"` // vLLM: an HTTP status; others: a word or null
	} `json:"error"`
}

// completion is a model's answer, with who gave it.
type completion struct {
	id, model, text, finishReason string
	usage                         usage
	firstChunk                    time.Duration // from sending the request to the first text
	pod, namespace                string        // as the server names itself in its headers; may be empty
}

// statusError is an answer that is none of success.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.status, e.text) }

// errorType is the attribute error.type: of few values.
func errorType(err error) string {
	var status *statusError
	switch {
	case errors.As(err, &status):
		return strconv.Itoa(status.status)
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	default:
		return "_OTHER"
	}
}

// complete asks a model for a completion and reads all of the stream. The trace context of ctx goes with the request.
func complete(ctx context.Context, client *http.Client, to model, asked chatRequest) (completion, error) {
	body, err := json.Marshal(asked)
	if err != nil {
		return completion{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.base.JoinPath("/v1/chat/completions").String(), bytes.NewReader(body))
	if err != nil {
		return completion{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(request.Header))
	begun := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return completion{}, err
	}
	defer response.Body.Close()
	// The simulator tells its pod; vLLM would not, but sends spans of its own.
	answer := completion{pod: response.Header.Get("X-Inference-Pod"), namespace: response.Header.Get("X-Inference-Namespace")}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return answer, &statusError{response.StatusCode, strings.TrimSpace(string(text))}
	}
	err = answer.read(response.Body, func() time.Duration { return time.Since(begun) })
	_, _ = io.Copy(io.Discard, response.Body) // read to its end, a connection is used again
	return answer, err
}

// read collects a stream of server-sent events up to its end marker or, if that is missing, up to its end after a reason to finish.
func (c *completion) read(stream io.Reader, elapsed func() time.Duration) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, longestEvent)
	var text strings.Builder
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data:")
		if !found {
			continue
		}
		data = strings.TrimSpace(data)
		if data == "[DONE]" {
			break
		}
		var part chunk
		if err := json.Unmarshal([]byte(data), &part); err != nil {
			return fmt.Errorf("event that is not JSON: %w", err)
		}
		if part.Error != nil {
			status, _ := part.Error.Code.(float64)
			return &statusError{cmp.Or(int(status), http.StatusInternalServerError), part.Error.Message}
		}
		c.id, c.model = part.ID, part.Model
		if part.Usage != nil {
			c.usage = *part.Usage
		}
		for _, choice := range part.Choices {
			if choice.Delta.Content != "" && c.firstChunk == 0 {
				c.firstChunk = elapsed()
			}
			text.WriteString(choice.Delta.Content)
			if choice.FinishReason != "" {
				c.finishReason = choice.FinishReason
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if c.finishReason == "" { // Llama Stack sends no end marker
		return io.ErrUnexpectedEOF
	}
	c.text = text.String()
	return nil
}
