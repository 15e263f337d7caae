// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	framebuffer = 81920 // MiB of a GPU
	product     = "Lab stand-in, no GPU"
	help        = "Stand-in of the lab for NVIDIA's DCGM exporter, no GPU was read: "
	smoothing   = 0.3 // weight of the newest load; the rest is the past's
)

// load is what a model server says of itself.
type load struct {
	running float64 // requests under way
	cache   float64 // share of the key-value cache in use, 0 to 1
}

// figures are what DCGM would read from a GPU.
type figures struct {
	utilisation float64 // percent
	used        float64 // MiB
	power       float64 // W
	temperature float64 // °C
}

// figuresOf makes a GPU's figures from its load: a formula, not a measurement. Four requests use all of it, as the lab's servers
// run four at once.
func figuresOf(of load, weights float64) figures {
	utilisation := min(100, 25*of.running)
	return figures{
		utilisation: utilisation,
		used:        weights + (framebuffer*0.9-weights)*min(1, of.cache),
		power:       60 + 3.4*utilisation,
		temperature: 30 + 0.4*utilisation,
	}
}

// gpu is one with the model server that runs on it.
type gpu struct {
	namespace, service string
	weights            float64

	mutex   sync.Mutex
	pod     string // empty: nobody runs on it
	average load
}

// observe takes a load in. An empty pod: nobody runs on the GPU.
func (g *gpu) observe(pod string, now load) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.pod = pod
	g.average.running += smoothing * (now.running - g.average.running)
	g.average.cache = now.cache
}

// now is the pod on the GPU and what DCGM would read.
func (g *gpu) now() (string, figures) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.pod == "" {
		return "", figuresOf(load{}, 0)
	}
	return g.pod, figuresOf(g.average, g.weights)
}

// exporter collects all GPUs' figures.
type exporter struct {
	host string
	gpus gpus
}

var (
	labels  = []string{"gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "container", "namespace", "pod"}
	metrics = map[*prometheus.Desc]func(figures) float64{
		desc("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)."):          func(f figures) float64 { return f.utilisation },
		desc("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB)."): func(f figures) float64 { return f.used },
		desc("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB)."): func(f figures) float64 { return framebuffer - f.used },
		desc("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W)."):            func(f figures) float64 { return f.power },
		desc("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C)."):          func(f figures) float64 { return f.temperature },
	}
)

func desc(name, text string) *prometheus.Desc {
	return prometheus.NewDesc(name, help+text, labels, nil)
}

// Describe implements prometheus.Collector.
func (e *exporter) Describe(out chan<- *prometheus.Desc) {
	for desc := range metrics {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (e *exporter) Collect(out chan<- prometheus.Metric) {
	for index, gpu := range e.gpus {
		pod, read := gpu.now()
		container, namespace := "", ""
		if pod != "" {
			container, namespace = "kserve-container", gpu.namespace
		}
		values := []string{
			strconv.Itoa(index), fmt.Sprintf("GPU-00000000-0000-0000-0000-%012d", index), fmt.Sprintf("00000000:%02X:00.0", index),
			fmt.Sprintf("nvidia%d", index), product, e.host, container, namespace, pod,
		}
		for desc, value := range metrics {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value(read), values...)
		}
	}
}
