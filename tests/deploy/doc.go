// Package deploy is the module of the tests of deploy/: the Helm chart, the manifests that are rendered from it, the image
// and the systemd unit.
//
//   - chart renders the chart by Helm's own engine, strictly, and keeps the plain manifests equal to it;
//   - program gives the real program every command line and file of settings, asks it what the probes ask, and has
//     systemd read the unit where there is one.
//
// Whether a Kubernetes takes the objects is asked by tests/kube, which has a real API server. What nothing here shows: that
// the image builds, which needs a container engine, and a rollout on real nodes.
package deploy
