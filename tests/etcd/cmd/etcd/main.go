// Command etcd is the real etcd server of the version in go.mod: the reference that Orlop is compared with.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
