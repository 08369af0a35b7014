// OpenTelemetry's exporter to Prometheus remote write behind OTLP over HTTP in JSON, for the tests.
// A whole collector would add nothing to what is sent, and its receivers aren't to be had.
//
//	otel-exporter ADDRESS OPTIONS
//
// OPTIONS is a JSON file of the exporter's own. An answer comes when the exporter is done.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusremotewriteexporter"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/xconfmap"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/featuregate"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	metrics "go.opentelemetry.io/otel/metric/noop"
	traces "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
)

// Remote write 2.0 is still experimental there.
const sends2 = "exporter.prometheusremotewritexporter.enableSendingRW2"

type host struct{}

func (host) GetExtensions() map[component.ID]component.Component { return nil }

func open(ctx context.Context, optionsFile string) (exporter.Metrics, error) {
	if err := featuregate.GlobalRegistry().Set(sends2, true); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(optionsFile)
	if err != nil {
		return nil, err
	}
	var options map[string]any
	if err := json.Unmarshal(text, &options); err != nil {
		return nil, err
	}
	factory := prometheusremotewriteexporter.NewFactory()
	config := factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(options).Unmarshal(config); err != nil {
		return nil, err
	}
	if err := xconfmap.Validate(config); err != nil {
		return nil, err
	}
	logger, err := zap.NewDevelopment()
	if err != nil {
		return nil, err
	}
	settings := exporter.Settings{
		ID: component.NewID(factory.Type()),
		TelemetrySettings: component.TelemetrySettings{
			Logger:         logger,
			MeterProvider:  metrics.NewMeterProvider(),
			TracerProvider: traces.NewTracerProvider(),
		},
	}
	made, err := factory.CreateMetrics(ctx, settings, config)
	if err != nil {
		return nil, err
	}
	return made, made.Start(ctx, host{})
}

func main() {
	address, optionsFile := os.Args[1], os.Args[2]
	sender, err := open(context.Background(), optionsFile)
	if err != nil {
		log.Fatal(err)
	}
	// The default one has pages of the exporter's libraries.
	routes := http.NewServeMux()
	routes.HandleFunc("GET /", func(http.ResponseWriter, *http.Request) {})
	routes.HandleFunc("POST /v1/metrics", func(answer http.ResponseWriter, asked *http.Request) {
		body, err := io.ReadAll(asked.Body)
		request := pmetricotlp.NewExportRequest()
		if err == nil {
			err = request.UnmarshalJSON(body)
		}
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
		} else if err := sender.ConsumeMetrics(asked.Context(), request.Metrics()); err != nil {
			http.Error(answer, err.Error(), http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe(address, routes))
}
