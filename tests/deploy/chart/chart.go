// Package chart renders the Helm chart of deploy/helm as `helm template` would, with Helm's own engine.
package chart

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// Root is the checkout, seen from the packages that test.
const Root = "../../.."

// Dir is where the chart is.
var Dir = filepath.Join(Root, "deploy/helm/orlop")

const (
	release   = "orlop"
	namespace = "orlop"
)

// Set is a set of values of the chart's folder ci, and the file that what it renders to is kept in.
type Set struct {
	Name     string
	Rendered string
}

// Sets are the sets of values that are rendered and kept.
var Sets = []Set{
	{Name: "fleet", Rendered: filepath.Join(Root, "deploy/kubernetes/fleet.yaml")},
	{Name: "trial", Rendered: filepath.Join(Root, "deploy/kubernetes/trial.yaml")},
	{Name: "everything", Rendered: filepath.Join(Root, "tests/deploy/rendered/everything.yaml")},
}

// Values reads the set's values.
func (s Set) Values() (map[string]any, error) {
	content, err := os.ReadFile(s.file())
	if err != nil {
		return nil, err
	}
	return common.ReadValues(content)
}

func (s Set) file() string {
	return filepath.Join(Dir, "ci", s.Name+"-values.yaml")
}

// Manifests renders the set to one text, as it is kept.
func (s Set) Manifests() (string, error) {
	values, err := s.Values()
	if err != nil {
		return "", err
	}
	files, err := Render(values)
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.file(), err)
	}
	var text strings.Builder
	text.WriteString("# Rendered from deploy/helm/orlop with ci/" + s.Name + "-values.yaml. A test keeps it so: change those.\n")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if manifest := strings.TrimSpace(files[name]); manifest != "" && path.Ext(name) == ".yaml" {
			text.WriteString("---\n" + manifest + "\n")
		}
	}
	return text.String(), nil
}

// Render renders the chart with these values over its own, which its schema has to allow. The files are named by their
// templates.
func Render(values map[string]any) (map[string]string, error) {
	chart, err := loader.LoadDir(Dir)
	if err != nil {
		return nil, err
	}
	options := common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, options, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(chart, all)
}
