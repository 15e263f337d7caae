// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
)

// dataSource is the name of the documents below in gen_ai.data_source.id.
const dataSource = "lab-documents"

// topDocuments is how many documents a retrieval gives.
const topDocuments = 3

// documents are what questions are answered from: few enough to be searched in memory.
var documents = map[string]string{
	"time-to-first-token":  "The time to first token is the time from a request until the model returns the first token. It grows with the length of the prompt and with the queue.",
	"inter-token-latency":  "The inter-token latency is the time between two tokens of one answer. Readers see it as the speed at which an answer appears.",
	"quantisation":         "Quantisation stores the weights of a model with fewer bits. The model needs less memory and answers faster; its quality must be measured again.",
	"kv-cache":             "The key-value cache keeps what attention has computed for earlier tokens. When it is full, requests wait or are preempted.",
	"continuous-batching":  "With continuous batching a server adds requests to a running batch at every step, so that a graphics processor is busy although answers differ in length.",
	"retrieval":            "Retrieval-augmented generation looks up documents that fit a question and gives them to the model together with it.",
	"evaluation":           "An evaluation runs a model on tasks with known answers. The score of a sample has a standard error, which shrinks with the square root of its size.",
	"trace":                "A trace is the way of one request through all services. It consists of spans, each with a start, an end and attributes.",
	"error-budget":         "An error budget is the share of requests that may fail in a period without breaking the service level objective.",
	"prefix-caching":       "Prefix caching reuses the key-value cache of prompts that begin with the same tokens, for example the same system prompt.",
	"graphics-utilisation": "A graphics processor that is idle while requests wait points to a bottleneck elsewhere: loading data, network or the scheduler.",
	"context-length":       "The context length limits prompt and answer together. A server refuses a request that needs more.",
}

// questions are what users of the lab ask.
var questions = []string{
	"Why does the time to first token grow when many requests wait in the queue?",
	"Is a quantised model worse than one with full precision?",
	"What happens when the key-value cache of the server is full?",
	"How many samples does an evaluation need for a small standard error?",
	"Why is the graphics processor idle while requests wait?",
	"Which spans does the trace of one request have?",
	"How much of the error budget is left in this period?",
	"What does the server do with a prompt above its context length?",
}

// document is one that was found; score is the cosine of question and document, 0 to 1.
type document struct {
	ID    string  `json:"id"`
	Score float64 `json:"score"`
}

// retrieve finds the documents that share most words with a question, best first.
func retrieve(question string) []document {
	asked := words(question)
	var found []document
	for id, text := range documents {
		known := words(text)
		shared := 0
		for word := range asked {
			if known[word] {
				shared++
			}
		}
		if shared > 0 {
			found = append(found, document{id, float64(shared) / math.Sqrt(float64(len(asked)*len(known)))})
		}
	}
	slices.SortFunc(found, func(a, b document) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID))
	})
	return found[:min(topDocuments, len(found))]
}

// words is the set of words of a text that say something: those of four letters and more.
func words(text string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		if len(word) > 3 {
			set[word] = true
		}
	}
	return set
}
