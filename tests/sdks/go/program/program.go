// Package program is what the programs in Go share: the world, the server, and checks. What each does is in ../../README.md.
package program

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"sort"
	"strconv"
	"time"
)

// Production is the path of the environment.
const Production = "/environments/production"

// Reasons are those that must be among what is expected.
var Reasons = []string{"FALLTHROUGH", "OFF", "PREREQUISITE_FAILED", "RULE_MATCH", "TARGET_MATCH"}

// World is what world.py has written down.
type World struct {
	URL      string     `json:"url"`
	Admin    string     `json:"admin"`
	Token    string     `json:"token"`
	Expected []Expected `json:"expected"`
	Edges    []Edge     `json:"edges"`
	// Patience is how long anything may take.
	Patience time.Duration `json:"-"`

	nChecks int
	note    string
}

// Expected is what OFREP has answered for one context: value, reason and the rule's index of each flag; and the whole reason.
type Expected struct {
	Context json.RawMessage   `json:"context"`
	Flags   map[string][4]any `json:"flags"`
}

// Edge is a context at the edge of a slice, and what OFREP has answered for it.
type Edge struct {
	Context json.RawMessage `json:"context"`
	Key     string          `json:"key"`
	Value   any             `json:"value"`
}

// Run reads the world, runs the parts of a program and tells how it went.
func Run(parts func(world *World)) {
	world := &World{Patience: 45 * time.Second}
	text, err := os.ReadFile(os.Getenv("SDKS_WORLD"))
	if err == nil {
		err = json.Unmarshal(text, world)
	}
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	defer func() {
		if problem := recover(); problem != nil {
			fmt.Println("failed", problem)
			os.Exit(1)
		}
		fmt.Printf("passed %d checks%s\n", world.nChecks, world.note)
	}()
	parts(world)
}

// Must ends the program if something has failed.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}

// Check compares what is with what is expected.
func (w *World) Check(what string, is, expected any) {
	if !reflect.DeepEqual(is, expected) {
		panic(fmt.Sprintf("%s: %v instead of %v", what, is, expected))
	}
	w.nChecks++
}

// Becomes asks until the answer is the expected one, or patience ends.
func (w *World) Becomes(what string, ask func() any, expected any) {
	deadline := time.Now().Add(w.Patience)
	is := ask()
	for !reflect.DeepEqual(is, expected) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		is = ask()
	}
	w.Check(what, is, expected)
}

// Send asks the administrator's routes.
func (w *World) Send(method, path string, body any) map[string]any {
	text, err := json.Marshal(body)
	Must(err)
	request, err := http.NewRequest(method, w.URL+"/api/v1/projects/shop"+path, bytes.NewReader(text))
	Must(err)
	request.Header.Set("Authorization", "Bearer "+w.Admin)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	Must(err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	Must(err)
	if response.StatusCode >= 300 {
		panic(fmt.Sprintf("%s %s: %s %s", method, path, response.Status, answer))
	}
	read := map[string]any{}
	if len(answer) > 0 {
		Must(json.Unmarshal(answer, &read))
	}
	return read
}

// Change sends one instruction for a flag.
func (w *World) Change(flag string, instruction map[string]any) {
	w.Send("PATCH", Production+"/flags/"+flag, map[string]any{"instructions": []any{instruction}})
}

// Serves makes a flag serve a variation to everybody.
func (w *World) Serves(flag, variation string) {
	w.Change(flag, map[string]any{"kind": "updateFallthroughVariationOrRollout", "variation": variation})
}

// Turn turns a flag on or off, by the name of the instruction.
func (w *World) Turn(flag, kind string) {
	w.Change(flag, map[string]any{"kind": kind})
}

// AddRule adds a rule for those whose plan is gold to `live-rule`.
func (w *World) AddRule() {
	clause := map[string]any{"contextKind": "user", "attribute": "plan", "op": "in", "values": []string{"gold"}}
	w.Change("live-rule", map[string]any{"kind": "addRule", "clauses": []any{clause}, "variation": "v0"})
}

// EnterSegment puts the user into the segment.
func (w *World) EnterSegment() {
	w.Send("PUT", Production+"/segments/live", map[string]any{"key": "live", "included": []string{"live-user"}})
}

// DeleteFlag deletes `live-gone`.
func (w *World) DeleteFlag() {
	w.Send("DELETE", "/flags/live-gone", nil)
}

// Outage keeps the server away, and looks again and again what ask says meanwhile.
func (w *World) Outage(what string, ask func() any, expected any) {
	server("kill")
	secs, err := strconv.ParseFloat(os.Getenv("SDKS_OUTAGE_SECS"), 64)
	Must(err)
	end := time.Now().Add(time.Duration(secs * float64(time.Second)))
	for first := true; first || time.Now().Before(end); first = false {
		w.Check(what, ask(), expected)
		time.Sleep(200 * time.Millisecond)
	}
	server("start")
}

func server(what string) {
	Must(exec.Command(os.Getenv("SDKS_SERVER"), what).Run())
}

// EachExpected visits each context and flag of the world, and checks that every reason was among them.
func (w *World) EachExpected(visit func(context json.RawMessage, key string, expected [4]any)) {
	kinds := map[string]bool{}
	for _, each := range w.Expected {
		for key, expected := range each.Flags {
			kinds[expected[1].(string)] = true
			visit(each.Context, key, expected)
		}
	}
	found := []string{}
	for kind := range kinds {
		found = append(found, kind)
	}
	sort.Strings(found)
	w.Check("every reason was among them", found, Reasons)
}

// CheckEdges checks that the cases at the edge of a slice come out as on the server.
func (w *World) CheckEdges(evaluate func(key string, context json.RawMessage) any) {
	for _, edge := range w.Edges {
		w.Check("at the edge of a slice of "+edge.Key, evaluate(edge.Key, edge.Context), edge.Value)
	}
	w.note = fmt.Sprintf(", %d of %d at the edge of a slice as on the server", len(w.Edges), len(w.Edges))
}

// Counts returns a function that asks how often each variation of a flag was counted.
func (w *World) Counts(flag string) func() any {
	return func() any {
		counted := map[string]any{}
		for _, each := range w.Send("GET", Production+"/flags/"+flag+"/usage", nil)["variations"].([]any) {
			each := each.(map[string]any)
			counted[each["variation"].(string)] = each["count"]
		}
		return counted
	}
}

// CheckCounts checks what the server has counted: 7 of `live-string`, 5 and 4 of `live-rule`, and an unknown flag.
func (w *World) CheckCounts() {
	w.Becomes("what was evaluated is counted", w.Counts("live-string"), map[string]any{"v0": 7.0})
	w.Becomes("each variation is counted", w.Counts("live-rule"), map[string]any{"v0": 5.0, "v1": 4.0})
	w.Becomes("an unknown flag is told", func() any {
		for _, each := range w.Send("GET", Production+"/unknown-flags", nil)["items"].([]any) {
			if each.(map[string]any)["flag"] == "nobody-has-it" {
				return true
			}
		}
		return false
	}, true)
}
