// LaunchDarkly's server-side SDK for Go: `server-sdk streaming|polling|data-system`.
//
// What every program does and how it is run is in ../../README.md.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/launchdarkly/go-sdk-common/v3/ldcontext"
	"github.com/launchdarkly/go-sdk-common/v3/ldvalue"
	ld "github.com/launchdarkly/go-server-sdk/v7"
	"github.com/launchdarkly/go-server-sdk/v7/ldcomponents"

	"vexil.test/sdks/program"
)

var mode = os.Args[1]

// The shortest interval at which the SDK polls is 30 s.
var isPolling = mode == "polling"

func connect(world *program.World, sendsEvents bool) *ld.LDClient {
	config := ld.Config{ServiceEndpoints: ldcomponents.RelayProxyEndpoints(world.URL), DiagnosticOptOut: true}
	config.Events = ldcomponents.NoEvents()
	if sendsEvents {
		config.Events = ldcomponents.SendEvents().FlushInterval(time.Second)
	}
	switch mode {
	case "polling":
		config.DataSource = ldcomponents.PollingDataSource()
	case "data-system":
		config.DataSystem = ldcomponents.DataSystem().WithRelayProxyEndpoints(world.URL).Default()
	}
	client, err := ld.MakeCustomClient(world.Token, config, 20*time.Second)
	program.Must(err)
	return client
}

func readContext(text json.RawMessage) ldcontext.Context {
	var context ldcontext.Context
	program.Must(json.Unmarshal(text, &context))
	return context
}

type tester struct {
	*program.World
	client *ld.LDClient
	user   ldcontext.Context
}

// detail returns the value, the reason's kind and the whole reason.
func (t tester) detail(key string, context ldcontext.Context) [3]any {
	value, detail, _ := t.client.JSONVariationDetail(key, context, ldvalue.Null())
	text, err := json.Marshal(detail.Reason)
	program.Must(err)
	var reason any
	program.Must(json.Unmarshal(text, &reason))
	return [3]any{value.AsArbitraryValue(), string(detail.Reason.GetKind()), reason}
}

func (t tester) value(key string) func() any {
	return func() any { return t.detail(key, t.user)[0] }
}

func (t tester) kind(key string) func() any {
	return func() any { return t.detail(key, t.user)[1] }
}

func (t tester) evaluates() {
	t.Check("initialised", t.client.Initialized(), true)
	boolean, err := t.client.BoolVariation("live-boolean", t.user, true)
	t.Check("boolean", []any{boolean, err}, []any{false, nil})
	text, err := t.client.StringVariation("live-string", t.user, "none")
	t.Check("string", []any{text, err}, []any{"red", nil})
	whole, err := t.client.IntVariation("live-number", t.user, 0)
	t.Check("whole number", []any{whole, err}, []any{1, nil})
	number, err := t.client.Float64Variation("live-number", t.user, 0)
	t.Check("number", []any{number, err}, []any{1.0, nil})
	t.Check("json", t.value("live-json")(), map[string]any{"a": []any{1.0, map[string]any{"b": nil}}})
	_, unknown, _ := t.client.StringVariationDetail("unknown", t.user, "none")
	t.Check("unknown flag", string(unknown.Reason.GetErrorKind()), "FLAG_NOT_FOUND")
	_, malformed, _ := t.client.StringVariationDetail("live-malformed", t.user, "none")
	t.Check("malformed", string(malformed.Reason.GetErrorKind()), "MALFORMED_FLAG")
	_, nobody, _ := t.client.StringVariationDetail("live-string", ldcontext.New(""), "none")
	t.Check("for nobody", string(nobody.Reason.GetErrorKind()), "USER_NOT_SPECIFIED")
	t.Check("a big segment, which is sent as an ordinary one", t.detail("live-big", t.user),
		[3]any{1.0, "FALLTHROUGH", map[string]any{"kind": "FALLTHROUGH"}})
	// One whose server is not there.
	config := ld.Config{ServiceEndpoints: ldcomponents.RelayProxyEndpoints("http://127.0.0.1:1"), Events: ldcomponents.NoEvents()}
	waiting, _ := ld.MakeCustomClient(t.Token, config, 0)
	_, early, _ := waiting.StringVariationDetail("live-string", t.user, "none")
	t.Check("before it is ready", string(early.Reason.GetErrorKind()), "CLIENT_NOT_READY")
	program.Must(waiting.Close())
	_, mistyped, _ := t.client.BoolVariationDetail("live-string", t.user, true)
	t.Check("wrong type", string(mistyped.Reason.GetErrorKind()), "WRONG_TYPE")
}

func (t tester) agrees() {
	t.EachExpected(func(context json.RawMessage, key string, answered [4]any) {
		expected := [3]any{answered[0], answered[1], answered[3]}
		if is := t.detail(key, readContext(context)); !reflect.DeepEqual(is, expected) {
			t.Check(fmt.Sprintf("%s for %s", key, context), is, expected)
		}
	})
	t.CheckEdges(func(key string, context json.RawMessage) any {
		return t.detail(key, readContext(context))[0]
	})
}

func (t tester) follows() {
	t.Serves("live-boolean", "v0")
	if !isPolling {
		t.Becomes("another fallthrough", t.value("live-boolean"), true)
	}
	t.AddRule()
	if !isPolling {
		t.Becomes("a rule", t.kind("live-rule"), "RULE_MATCH")
	}
	t.Turn("live-number", "turnFlagOff")
	t.Becomes("off", t.kind("live-number"), "OFF")
	t.Becomes("another fallthrough", t.value("live-boolean"), true)
	t.Becomes("a rule", t.kind("live-rule"), "RULE_MATCH")
	t.Check("not in the segment", t.kind("live-segment")(), "FALLTHROUGH")
	t.EnterSegment()
	t.DeleteFlag()
	t.Turn("live-number", "turnFlagOn")
	t.Becomes("in the segment", t.kind("live-segment"), "RULE_MATCH")
	t.Becomes("a flag that was deleted", t.kind("live-gone"), "ERROR")
	t.Becomes("on", t.kind("live-number"), "FALLTHROUGH")
}

func (t tester) survives() {
	t.Outage("values stay through an outage", t.value("live-boolean"), true)
	t.Serves("live-boolean", "v1")
	t.Becomes("catches up after an outage", t.value("live-boolean"), false)
	t.Serves("live-boolean", "v0")
	if !isPolling {
		t.Becomes("follows after an outage", t.value("live-boolean"), true)
	}
}

// reports uses a second client, because the first reports nothing.
func (t tester) reports() {
	reporter := connect(t.World, true)
	other := ldcontext.NewMulti(ldcontext.New("other-user"), ldcontext.NewWithKind("organization", "live-shop"))
	evaluate := func(times int, flag string, context ldcontext.Context) {
		for range times {
			_, _ = reporter.JSONVariation(flag, context, ldvalue.Null())
		}
	}
	evaluate(7, "live-string", t.user)
	evaluate(5, "live-rule", t.user)
	reporter.Flush()
	// As in Java's, the queue of payloads has one place, and closing throws away what has found none.
	t.Becomes("what was flushed is counted", t.Counts("live-rule"), map[string]any{"v0": 5.0})
	evaluate(4, "live-rule", other)
	evaluate(3, "nobody-has-it", other)
	for range 2 {
		program.Must(reporter.TrackMetric("bought", t.user, 19.5, ldvalue.Null()))
	}
	program.Must(reporter.TrackEvent("looked", other))
	program.Must(reporter.Close())
	t.CheckCounts()
}

func main() {
	program.Run(func(world *program.World) {
		if isPolling {
			world.Patience = 75 * time.Second
		}
		user := ldcontext.NewBuilder("live-user").SetString("plan", "gold").Build()
		t := tester{world, connect(world, false), user}
		t.evaluates()
		t.agrees()
		t.follows()
		t.survives()
		t.reports()
		_ = t.client.Close()
	})
}
