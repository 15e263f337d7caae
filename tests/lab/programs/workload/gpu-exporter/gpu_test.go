// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

const page = `# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="mistral-24b"} 2
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="mistral-24b"} 0.5
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{model_name="mistral-24b"} 70
`

func TestFiguresOf(t *testing.T) {
	for _, row := range []struct {
		load    load
		weights float64
		want    figures
	}{
		{load{}, 0, figures{0, 0, 60, 30}},
		{load{}, 45000, figures{0, 45000, 60, 30}},
		{load{2, 0.5}, 10000, figures{50, 41864, 230, 50}},
		{load{9, 2}, 10000, figures{100, 73728, 400, 70}},
	} {
		if got := figuresOf(row.load, row.weights); got != row.want {
			t.Errorf("%+v: got %+v, want %+v", row.load, got, row.want)
		}
	}
}

func TestLoadOf(t *testing.T) {
	if got, err := loadOf(strings.NewReader(page)); err != nil || got != (load{2, 0.5}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, wrong := range []string{"", "vllm:num_requests_running{", "up 1\n"} {
		if _, err := loadOf(strings.NewReader(wrong)); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestFlagGPU(t *testing.T) {
	var got gpus
	if err := got.Set("private-ai-demo/mistral-24b=45000"); err != nil || got[0].namespace != "private-ai-demo" || got[0].service != "mistral-24b" || got[0].weights != 45000 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, wrong := range []string{"", "mistral-24b=1", "a/b", "a/b=x", "a/b=0", "a/b=81921", "/b=1", "a/=1"} {
		if err := got.Set(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestPageSaysThatItIsAStandIn(t *testing.T) {
	busy := &gpu{namespace: "private-ai-demo", service: "mistral-24b", weights: 45000}
	for range 100 {
		busy.observe("mistral-24b-predictor-0", load{2, 0})
	}
	exporter := &exporter{host: "node", gpus: gpus{busy, {namespace: "private-ai-demo", service: "none", weights: 1}}}
	want := `
# HELP DCGM_FI_DEV_GPU_UTIL Stand-in of the lab for NVIDIA's DCGM exporter, no GPU was read: GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{Hostname="node",UUID="GPU-00000000-0000-0000-0000-000000000000",container="kserve-container",device="nvidia0",gpu="0",modelName="Lab stand-in, no GPU",namespace="private-ai-demo",pci_bus_id="00000000:00:00.0",pod="mistral-24b-predictor-0"} 50
DCGM_FI_DEV_GPU_UTIL{Hostname="node",UUID="GPU-00000000-0000-0000-0000-000000000001",container="",device="nvidia1",gpu="1",modelName="Lab stand-in, no GPU",namespace="",pci_bus_id="00000000:01:00.0",pod=""} 0
`
	for desc := range metrics {
		if !strings.Contains(desc.String(), help) {
			t.Errorf("%s does not say what it is", desc)
		}
	}
	if len(metrics) != 5 {
		t.Errorf("%d metrics", len(metrics))
	}
	// A mean that nears 2 from below, in floating point.
	busy.average.running = 2
	if err := testutil.CollectAndCompare(exporter, strings.NewReader(want), "DCGM_FI_DEV_GPU_UTIL"); err != nil {
		t.Error(err)
	}
}

func TestLoadComesFromTheRunningPod(t *testing.T) {
	model := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") != "" {
			t.Error("the token went to a model server")
		}
		io.WriteString(writer, page)
	}))
	defer model.Close()
	host, port, _ := net.SplitHostPort(model.Listener.Addr().String())
	api := httptest.NewTLSServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") != "Bearer secret" {
			http.Error(writer, "", http.StatusUnauthorized)
			return
		}
		if request.URL.Path != "/api/v1/namespaces/private-ai-demo/pods" {
			t.Error(request.URL)
		}
		if request.URL.Query().Get("labelSelector") != "serving.kserve.io/inferenceservice=mistral-24b" {
			io.WriteString(writer, `{"items": []}`)
			return
		}
		io.WriteString(writer, `{"items": [
			{"metadata": {"name": "gone"}, "status": {"phase": "Failed"}},
			{"metadata": {"name": "serving"}, "spec": {"containers": [{"ports": [{"containerPort": `+port+`}]}]}, "status": {"phase": "Running", "podIP": "`+host+`"}}
		]}`)
	}))
	defer api.Close()
	account := t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	for name, content := range map[string][]byte{"token": []byte("secret\n"), "ca.crt": authority} {
		if err := os.WriteFile(filepath.Join(account, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	from := cluster{api: api.URL, account: account}
	if pod, got, err := from.load(t.Context(), "private-ai-demo", "mistral-24b"); err != nil || pod != "serving" || got != (load{2, 0.5}) {
		t.Errorf("%s %+v %v", pod, got, err)
	}
	if pod, _, err := from.load(t.Context(), "private-ai-demo", "none"); pod != "" || err == nil || err.Error() != "no running pod" {
		t.Errorf("%s %v", pod, err)
	}
	if err := os.WriteFile(filepath.Join(account, "token"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := from.load(t.Context(), "private-ai-demo", "mistral-24b"); err == nil || !strings.Contains(err.Error(), "401 Unauthorized") {
		t.Errorf("%v", err)
	}
}
