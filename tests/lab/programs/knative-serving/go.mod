module lab/knative-serving

go 1.24.0

require knative.dev/serving v0.46.0
