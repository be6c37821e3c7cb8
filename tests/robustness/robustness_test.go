//go:debug randseednop=0

package robustness

import (
	"testing"

	"go.etcd.io/etcd/tests/v3/robustness/traffic"
)

func TestKillsUnderKubernetesTraffic(t *testing.T) {
	play(t, scenario{traffic: traffic.Kubernetes, strike: killNowAndThen})
}

func TestKillsWhileKeysComeAndGo(t *testing.T) {
	play(t, scenario{traffic: traffic.KubernetesCreateDelete, strike: killNowAndThen})
}

func TestKillsUnderEtcdTraffic(t *testing.T) {
	play(t, scenario{traffic: traffic.EtcdPutDeleteLease, strike: killNowAndThen})
}

func TestRestartsInQuickSuccession(t *testing.T) {
	play(t, scenario{traffic: traffic.EtcdPutDeleteLease, strike: killAgainAndAgain})
}

func TestKillsWhileItCompacts(t *testing.T) {
	play(t, scenario{traffic: traffic.Kubernetes, strike: killWhileItCompacts})
}

func TestKillsWhileLeasesExpire(t *testing.T) {
	play(t, scenario{traffic: traffic.Kubernetes, strike: killWhileLeasesExpire, strikesMin: 3})
}

func TestKillsWhileItStarts(t *testing.T) {
	play(t, scenario{traffic: traffic.KubernetesCreateDelete, strike: killWhileItStarts})
}

func TestAPauseLongerThanAnyLease(t *testing.T) {
	play(t, scenario{traffic: traffic.Kubernetes, strike: pauseLongerThanLeases})
}
