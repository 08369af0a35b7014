// The Kubernetes API server, as its own command runs it, for the tests.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // Its clients' metrics.
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info.
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
