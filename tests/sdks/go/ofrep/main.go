// OpenFeature's SDK for Go with its provider for OFREP.
//
// What every program does and how it is run is in ../../README.md.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"

	"vexil.test/sdks/program"
)

// OFREP's words for each reason.
var words = map[string][]string{
	"OFF":                 {"DEFAULT"},
	"FALLTHROUGH":         {"STATIC", "DEFAULT", "SPLIT"},
	"RULE_MATCH":          {"TARGETING_MATCH", "SPLIT"},
	"TARGET_MATCH":        {"TARGETING_MATCH"},
	"PREREQUISITE_FAILED": {"DEFAULT"},
}

type tester struct {
	*program.World
	client *openfeature.Client
	user   openfeature.EvaluationContext
}

func readContext(text json.RawMessage) openfeature.EvaluationContext {
	var attributes map[string]any
	program.Must(json.Unmarshal(text, &attributes))
	key, _ := attributes["key"].(string)
	delete(attributes, "key")
	return openfeature.NewEvaluationContext(key, attributes)
}

// detail evaluates a flag whose value is like another.
func (t tester) detail(key string, like any, user openfeature.EvaluationContext) (any, openfeature.EvaluationDetails) {
	switch like := like.(type) {
	case bool:
		found, _ := t.client.BooleanValueDetails(context.Background(), key, like, user)
		return found.Value, found.EvaluationDetails
	case string:
		found, _ := t.client.StringValueDetails(context.Background(), key, like, user)
		return found.Value, found.EvaluationDetails
	case float64:
		found, _ := t.client.FloatValueDetails(context.Background(), key, like, user)
		return found.Value, found.EvaluationDetails
	default:
		found, _ := t.client.ObjectValueDetails(context.Background(), key, like, user)
		return found.Value, found.EvaluationDetails
	}
}

func (t tester) value(key string, otherwise any) any {
	value, _ := t.detail(key, otherwise, t.user)
	return value
}

func (t tester) reason(key string, otherwise any) string {
	_, about := t.detail(key, otherwise, t.user)
	return string(about.Reason)
}

func (t tester) evaluates() {
	value, about := t.detail("live-boolean", true, t.user)
	t.Check("boolean", []any{value, about.Variant, string(about.Reason)}, []any{false, "v1", "STATIC"})
	t.Check("string", t.value("live-string", "none"), "red")
	t.Check("number", t.value("live-number", 0.0), 1.0)
	whole, _ := t.client.IntValue(context.Background(), "live-number", 0, t.user)
	t.Check("whole number", whole, int64(1))
	t.Check("json", t.value("live-json", map[string]any{}), map[string]any{"a": []any{1.0, map[string]any{"b": nil}}})
	value, about = t.detail("unknown", "none", t.user)
	t.Check("unknown flag", []any{value, string(about.ErrorCode)}, []any{"none", "FLAG_NOT_FOUND"})
	value, about = t.detail("live-string", true, t.user)
	t.Check("wrong type", []any{value, string(about.ErrorCode)}, []any{true, "TYPE_MISMATCH"})
	value, about = t.detail("live-malformed", "none", t.user)
	t.Check("malformed", []any{value, string(about.ErrorCode)}, []any{"none", "PARSE_ERROR"})
	value, about = t.detail("flag-44", true, openfeature.NewTargetlessEvaluationContext(map[string]any{"plan": "gold"}))
	t.Check("divided without a key", []any{value, string(about.ErrorCode)}, []any{true, "TARGETING_KEY_MISSING"})
}

func (t tester) agrees() {
	t.EachExpected(func(text json.RawMessage, key string, answered [4]any) {
		expected := [3]any(answered[:3])
		value, about := t.detail(key, expected[0], readContext(text))
		is := [3]any{value, about.FlagMetadata["reason"], about.FlagMetadata["ruleIndex"]}
		if index, isWhole := is[2].(int64); isWhole {
			is[2] = float64(index)
		}
		if !reflect.DeepEqual(is, expected) {
			t.Check(fmt.Sprintf("%s for %s", key, text), is, expected)
		}
		if known := words[expected[1].(string)]; !slices.Contains(known, string(about.Reason)) {
			t.Check(fmt.Sprintf("why %s for %s", key, text), about.Reason, known)
		}
	})
}

// follows finds each change as soon as it has been acknowledged.
func (t tester) follows() {
	t.Serves("live-boolean", "v0")
	t.Check("another fallthrough", t.value("live-boolean", false), true)
	t.AddRule()
	t.Check("a rule", t.reason("live-rule", false), "TARGETING_MATCH")
	t.Turn("live-string", "turnFlagOff")
	t.Check("off", t.reason("live-string", "none"), "DEFAULT")
	t.Turn("live-string", "turnFlagOn")
	t.Check("on", t.reason("live-string", "none"), "STATIC")
	t.EnterSegment()
	t.Check("in the segment", t.reason("live-segment", false), "TARGETING_MATCH")
	t.DeleteFlag()
	_, about := t.detail("live-gone", true, t.user)
	t.Check("a flag that was deleted", string(about.ErrorCode), "FLAG_NOT_FOUND")
}

func (t tester) survives() {
	t.Outage("the default and an error in an outage", func() any {
		value, about := t.detail("live-boolean", false, t.user)
		return []any{value, string(about.Reason), string(about.ErrorCode)}
	}, []any{false, "ERROR", "GENERAL"})
	t.Becomes("answers after an outage", func() any { return t.value("live-boolean", false) }, true)
	t.Serves("live-boolean", "v1")
	t.Check("follows after an outage", t.value("live-boolean", true), false)
}

func main() {
	program.Run(func(world *program.World) {
		provider := ofrep.NewProvider(world.URL, ofrep.WithBearerToken(world.Token))
		program.Must(openfeature.SetProviderAndWait(provider))
		user := openfeature.NewEvaluationContext("live-user", map[string]any{"plan": "gold"})
		t := tester{world, openfeature.NewClient("test"), user}
		t.evaluates()
		t.agrees()
		t.follows()
		t.survives()
	})
}
