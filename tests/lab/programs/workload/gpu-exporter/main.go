// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

// Command gpu-exporter serves the names and labels of NVIDIA's DCGM exporter in the lab, which has no GPU. Its figures follow
// from what the simulated model servers say of their load.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const readEvery = 2 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var fleet gpus
	var cluster cluster
	flag.Var(&fleet, "gpu", "a GPU as `NAMESPACE/INFERENCESERVICE=MIB`: who runs on it, and the size of the model's weights; may be repeated")
	listen := flag.String("listen", ":9400", "`ADDRESS` to serve /metrics on")
	flag.StringVar(&cluster.api, "api", "https://kubernetes.default.svc", "`URL` of the API server, which knows the pods")
	flag.StringVar(&cluster.account, "account", "/var/run/secrets/kubernetes.io/serviceaccount", "`FOLDER` with token and ca.crt for it")
	flag.Parse()
	if flag.NArg() > 0 || len(fleet) == 0 {
		fmt.Fprintln(os.Stderr, "gpu-exporter: one --gpu or more and nothing else; -h lists the flags")
		os.Exit(2)
	}
	if err := serve(ctx, fleet, cluster, *listen); err != nil {
		log.Fatalf("gpu-exporter: %v", err)
	}
}

func serve(ctx context.Context, fleet gpus, cluster cluster, listen string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&exporter{host: host, gpus: fleet})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go follow(ctx, fleet, &cluster)
	go func() {
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(closing)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// follow reads the load of the model servers until ctx ends. One that cannot be read leaves its GPU idle.
func follow(ctx context.Context, fleet gpus, cluster *cluster) {
	ticks := time.NewTicker(readEvery)
	defer ticks.Stop()
	said := map[string]string{}
	for {
		for _, gpu := range fleet {
			pod, load, err := cluster.load(ctx, gpu.namespace, gpu.service)
			text := "load of pod " + pod
			if err != nil {
				text = err.Error()
			}
			if name := gpu.namespace + "/" + gpu.service; said[name] != text { // once, not every two seconds
				said[name] = text
				log.Printf("%s: %s", name, text)
			}
			gpu.observe(pod, load)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// gpus is a flag that may be given more than once.
type gpus []*gpu

func (g *gpus) String() string { return "" }

// Set reads NAMESPACE/INFERENCESERVICE=MIB.
func (g *gpus) Set(value string) error {
	who, size, _ := strings.Cut(value, "=")
	namespace, service, found := strings.Cut(who, "/")
	weights, err := strconv.ParseFloat(size, 64)
	if !found || namespace == "" || service == "" || err != nil || weights <= 0 || weights > framebuffer {
		return fmt.Errorf("%q is not NAMESPACE/INFERENCESERVICE=MIB with at most %d MiB", value, framebuffer)
	}
	*g = append(*g, &gpu{namespace: namespace, service: service, weights: weights})
	return nil
}
