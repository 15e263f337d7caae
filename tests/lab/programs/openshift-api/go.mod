module lab/openshift-api

go 1.24.0

require github.com/openshift/api v0.0.0-20260130140113-71e91db96ffc
