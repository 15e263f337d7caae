// Copyright: private_ai.model_monitoring contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const readWithin = 2 * time.Second

// cluster finds model servers' pods and reads their load.
type cluster struct {
	api, account string
	client       *http.Client // of the API server; made when first needed
}

// podList is what is wanted of the API server's answer.
type podList struct {
	Items []struct {
		Metadata struct{ Name string }
		Spec     struct {
			Containers []struct {
				Ports []struct{ ContainerPort int }
			}
		}
		Status struct{ Phase, PodIP string }
	}
}

// load gives the name and the load of the first running pod of an InferenceService.
func (c *cluster) load(ctx context.Context, namespace, service string) (string, load, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	pods, err := c.pods(ctx, namespace, service)
	if err != nil {
		return "", load{}, err
	}
	for _, pod := range pods.Items {
		if pod.Status.Phase != "Running" || pod.Status.PodIP == "" {
			continue
		}
		if len(pod.Spec.Containers) == 0 || len(pod.Spec.Containers[0].Ports) == 0 {
			continue
		}
		port := strconv.Itoa(pod.Spec.Containers[0].Ports[0].ContainerPort)
		body, err := get(ctx, http.DefaultClient, "http://"+net.JoinHostPort(pod.Status.PodIP, port)+"/metrics", "")
		if err != nil {
			return "", load{}, err
		}
		defer body.Close()
		read, err := loadOf(body)
		return pod.Metadata.Name, read, err
	}
	return "", load{}, errors.New("no running pod")
}

func (c *cluster) pods(ctx context.Context, namespace, service string) (podList, error) {
	// The kubelet renews the token.
	token, err := os.ReadFile(filepath.Join(c.account, "token"))
	if err != nil {
		return podList{}, err
	}
	if c.client == nil {
		authority, err := os.ReadFile(filepath.Join(c.account, "ca.crt"))
		if err != nil {
			return podList{}, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(authority) {
			return podList{}, fmt.Errorf("no certificate in %s", filepath.Join(c.account, "ca.crt"))
		}
		c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	}
	query := url.Values{"labelSelector": {"serving.kserve.io/inferenceservice=" + service}, "resourceVersion": {"0"}}
	body, err := get(ctx, c.client, c.api+"/api/v1/namespaces/"+namespace+"/pods?"+query.Encode(), strings.TrimSpace(string(token)))
	if err != nil {
		return podList{}, err
	}
	defer body.Close()
	var pods podList
	return pods, json.NewDecoder(body).Decode(&pods)
}

func get(ctx context.Context, client *http.Client, address, token string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s answers %s", request.URL.Redacted(), response.Status)
	}
	return response.Body, nil
}

// loadOf reads a model server's page in Prometheus' text format.
func loadOf(page io.Reader) (load, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(page)
	if err != nil {
		return load{}, err
	}
	running := families["vllm:num_requests_running"]
	if running == nil {
		return load{}, errors.New("no vllm:num_requests_running")
	}
	return load{running: sum(running), cache: sum(families["vllm:kv_cache_usage_perc"])}, nil
}

// sum is over all series of a gauge; 0 if there are none.
func sum(family *dto.MetricFamily) float64 {
	total := 0.0
	for _, metric := range family.GetMetric() {
		total += metric.GetGauge().GetValue()
	}
	return total
}
