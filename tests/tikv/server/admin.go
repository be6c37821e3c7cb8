package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// Usage lists the side door's requests, for people.
const Usage = `  /split?key=K                    a region begins at K
  /region?key=K                   the id of K's region
  /transfer?region=ID             the next peer leads it
  /regions                        all of them
  /advance?ms=N                   PD's clock moves on
  /inject?method=M&kind=K[&count=N][&skip=N][&ms=N][&region=ID]
                                  the next N calls of M (KvPrewrite, KvCommit, KvGet, ...) meet K:
                                  busy notleader epoch regionnotfound refuse lose delay hang stall
  /counts                         how often each method was called since /clear
  /clear                          no faults, counts from 0
`

// admin answers the side door's requests, which are all GET, so that they can be typed into a browser.
func (c *cluster) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/split", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, c.split([]byte(r.FormValue("key"))).GetId())
	})
	mux.HandleFunc("/region", func(w http.ResponseWriter, r *http.Request) {
		region, _, _, _ := c.regions.GetRegionByKey(regionKey([]byte(r.FormValue("key"))))
		fmt.Fprint(w, region.GetId())
	})
	mux.HandleFunc("/transfer", func(w http.ResponseWriter, r *http.Request) {
		numbers, err := readNumbers(r, "region")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		} else if !c.transfer(uint64(numbers["region"])) {
			http.Error(w, "there is no such region", http.StatusNotFound)
		}
	})
	mux.HandleFunc("/regions", func(w http.ResponseWriter, r *http.Request) {
		for _, region := range c.regions.ScanRegions(nil, nil, 0) {
			fmt.Fprintf(w, "%d %q %q leader=%d\n",
				region.Meta.Id, region.Meta.StartKey, region.Meta.EndKey, region.Leader.GetId())
		}
	})
	mux.HandleFunc("/advance", func(w http.ResponseWriter, r *http.Request) {
		numbers, err := readNumbers(r, "ms")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.clock.advance(numbers["ms"])
	})
	mux.HandleFunc("/inject", c.inject)
	mux.HandleFunc("/counts", func(w http.ResponseWriter, r *http.Request) {
		c.faults.mu.Lock()
		defer c.faults.mu.Unlock()
		_ = json.NewEncoder(w).Encode(c.faults.counts)
	})
	mux.HandleFunc("/clear", func(w http.ResponseWriter, r *http.Request) { c.faults.clear() })
	return mux
}

func (c *cluster) inject(w http.ResponseWriter, r *http.Request) {
	numbers, err := readNumbers(r, "count", "skip", "ms", "region")
	if err == nil {
		err = c.faults.add(fault{
			Method:       r.FormValue("method"),
			Kind:         r.FormValue("kind"),
			Count:        max(numbers["count"], 1),
			Skip:         numbers["skip"],
			Milliseconds: numbers["ms"],
			Region:       uint64(numbers["region"]),
		})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// readNumbers reads the values that are there. A mistyped one is an error: a test must not run without its fault.
func readNumbers(r *http.Request, names ...string) (map[string]int64, error) {
	numbers := map[string]int64{}
	for _, name := range names {
		text := r.FormValue(name)
		if text == "" {
			continue
		}
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil || number < 0 {
			return nil, fmt.Errorf("%s=%s is not a number", name, text)
		}
		numbers[name] = number
	}
	return numbers, nil
}
