// Package observability checks the dashboard and the alert rules in deploy/observability: Prometheus' own code reads the
// rules and every expression, and whatever they name is looked for in what real servers print, one with the embedded
// engine and one of two on TiKV. A collector of traces gets the one of a write that goes over both of these.
package observability
