package robustness

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/tests/v3/robustness/traffic"

	"github.com/orlop/orlop/tests/harness"
)

// injected is part of what the failing engine answers.
const injected = "injected fault"

// withFaults starts a binary whose engine fails at these rates (in a thousand calls), from the seed on.
func withFaults(rates string) func(int64) []harness.Option {
	return func(seed int64) []harness.Option {
		return []harness.Option{
			harness.From(harness.OrlopPlantedBin),
			harness.Env(fmt.Sprintf("ENGINE_FAULTS=seed=%d,%s", seed, rates)),
		}
	}
}

// Whether a batch is durable is then unknown to the process, which has to find out, or to give up.
func TestAnEngineThatAnswersMaybe(t *testing.T) {
	play(t, scenario{
		traffic: traffic.Kubernetes,
		seeded:  withFaults("undetermined_applied=30,undetermined_not_applied=30,undetermined_applied_later=30"),
		met:     injected,
		strike:  wait,
		mayEnd:  true,
	})
}

// As a disk with errors: nothing of what the engine refused has happened, and reads fail too.
func TestAnEngineThatRefuses(t *testing.T) {
	play(t, scenario{
		traffic: traffic.EtcdPutDeleteLease,
		seeded:  withFaults("refused=100,no_space=20,read_unavailable=20"),
		met:     injected,
		strike:  wait,
		mayEnd:  true,
	})
}

func TestASlowEngine(t *testing.T) {
	play(t, scenario{
		traffic: traffic.KubernetesCreateDelete,
		seeded:  withFaults("delayed=300,delay_max_ms=60"),
		strike:  wait,
	})
}
