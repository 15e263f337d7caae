// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

// Command load-generator is the lab's traffic: chat requests to model servers with a trace and metrics of each over OTLP
// (`chat`), and plain spans at an exact rate for benches and fault tests (`spans`). README.md lists the flags.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	exitRefused = 3
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	commands := map[string]func(context.Context, []string) (int, error){"chat": runChat, "spans": runSpans}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: load-generator chat|spans [flags]; -h after either lists them")
		os.Exit(exitUsage)
	}
	code, err := commands[os.Args[1]](ctx, os.Args[2:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "load-generator: %v\n", err)
	}
	os.Exit(code)
}

func runChat(ctx context.Context, arguments []string) (int, error) {
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	var chat traffic
	flags.Var(&chat.models, "model", "a model as `NAME=URL`: its served name and the base URL without /v1; may be repeated")
	endpoint := flags.String("endpoint", "localhost:4317", "`HOST:PORT` of the collector's OTLP gRPC receiver, without TLS")
	flags.Float64Var(&chat.rate, "rate", 2, "requests per second, over all models")
	flags.IntVar(&chat.concurrency, "concurrency", 16, "requests under way at once; what would be more is skipped and counted")
	flags.IntVar(&chat.maxTokens, "max-tokens", 64, "upper limit of a completion, in tokens")
	flags.IntVar(&chat.retrievalEvery, "retrieval-every", 3, "every n-th request of a model retrieves documents first; 0: none")
	flags.IntVar(&chat.failureEvery, "failure-every", 20, "every n-th request of a model is one that it refuses; 0: none")
	flags.IntVar(&chat.contentEvery, "content-every", 10, "every n-th request of a model carries its content on its spans; 0: none")
	duration := flags.Duration("duration", 0, "end after this time; 0: on SIGTERM")
	if err := parse(flags, arguments); err != nil {
		return exitUsage, err
	}
	if err := chat.check(); err != nil {
		return exitUsage, err
	}
	telemetry, err := newTelemetry(ctx, *endpoint)
	if err != nil {
		return 1, err
	}
	chat.telemetry = telemetry
	running, cancel := ctx, context.CancelFunc(func() {})
	if *duration > 0 {
		running, cancel = context.WithTimeout(ctx, *duration)
	}
	defer cancel()
	report(chat.run(running))
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return 0, telemetry.shutdown(closing)
}

func runSpans(ctx context.Context, arguments []string) (int, error) {
	flags := flag.NewFlagSet("spans", flag.ContinueOnError)
	var spans burst
	flags.StringVar(&spans.endpoint, "endpoint", "localhost:4317", "`HOST:PORT` of the collector's OTLP gRPC receiver, without TLS")
	flags.IntVar(&spans.rate, "rate", 200, "spans per second")
	flags.IntVar(&spans.count, "count", 2000, "spans in all")
	flags.StringVar(&spans.run, "run", "", "value of the attribute lab.run on every span; random if empty")
	flags.StringVar(&spans.service, "service", "lab-spans", "service.name")
	flags.IntVar(&spans.batch, "batch", 0, "spans per export request; 0: a tenth of a second's, at most 1000")
	flags.IntVar(&spans.perTrace, "spans-per-trace", 1, "spans of one trace: a root and its children")
	flags.DurationVar(&spans.retryFor, "retry-for", time.Minute, "how long one export request is retried before its spans count as refused")
	flags.IntVar(&spans.inFlight, "in-flight", 16, "export requests under way at once; when all are, sending waits")
	if err := parse(flags, arguments); err != nil {
		return exitUsage, err
	}
	if err := spans.check(); err != nil {
		return exitUsage, err
	}
	result, err := spans.send(ctx)
	if err != nil {
		return 1, err
	}
	report(result)
	if result.Accepted < int64(spans.count) {
		return exitRefused, nil
	}
	return 0, nil
}

// parse is flags.Parse that takes no words beside flags; flag has printed its own errors already.
func parse(flags *flag.FlagSet, arguments []string) error {
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(0)
		}
		return fmt.Errorf("%s: wrong flags", flags.Name())
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: unexpected argument %q", flags.Name(), flags.Arg(0))
	}
	return nil
}

// report writes one line of JSON to standard output.
func report(result any) {
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintf(os.Stderr, "load-generator: %v\n", err)
	}
}

// model is a model by its served name, and where it is served.
type model struct {
	name string
	base *url.URL
}

// models is a flag that may be given more than once.
type models []model

func (m *models) String() string { return "" }

// Set reads NAME=URL.
func (m *models) Set(value string) error {
	name, address, found := strings.Cut(value, "=")
	base, err := url.Parse(address)
	if !found || name == "" || err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return fmt.Errorf("%q is not NAME=URL with an http or https URL", value)
	}
	*m = append(*m, model{name, base})
	return nil
}
