package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	eunomia "github.com/eunomia-bpf/libeunomia/bindings/go"
)

// outcome has the results of a step in the table's form. Numbers are float64, as in the table.
type outcome struct {
	returns  int
	err      error
	out      string
	bytes    string
	exitCode int
	info     map[string]any
	fields   []map[string]any
	events   []map[string]any
	records  []map[string]any
}

// subject returns the subject of an error in the table's form.
func subject(failure *eunomia.Error) string {
	kinds := []string{"", "variable ", "map ", "program ", "metadata ", "file "}
	return kinds[failure.SubjectKind] + failure.Subject
}

// compare returns the first difference, or "".
func compare(step step, out outcome) string {
	var differences []string
	differ := func(format string, values ...any) {
		differences = append(differences, fmt.Sprintf(format, values...))
	}
	same := func(name string, found any) {
		if expected, has := step[name]; has && !reflect.DeepEqual(expected, found) {
			differ("%s is %v, not %v", name, found, expected)
		}
	}
	failure := &eunomia.Error{}
	errors.As(out.err, &failure)
	expected := "EUNOMIA_OK"
	if step.has("status") {
		expected = step.text("status")
	}
	if found := failure.Status.Error(); found != expected {
		differ("%s (%s), not %s", found, failure.Message, expected)
	}
	part(differ, "errmsg", step.text("errmsg"), failure.Message)
	part(differ, "errdetail", step.text("errdetail"), failure.Detail)
	part(differ, "out", step.text("has"), out.out)
	same("errsys", float64(failure.Errno))
	same("subject", subject(failure))
	same("need", float64(failure.Need))
	same("returns", float64(out.returns))
	same("exit_code", float64(out.exitCode))
	same("out", out.out)
	if step.text("call") != "var_set" {
		same("bytes", out.bytes)
	}
	members(differ, "info", step["info"], out.info)
	if step.text("call") != "trigger" {
		lists(differ, "events", step, out.events, isLike)
	}
	lists(differ, "records", step, out.records, hasMembers)
	lists(differ, "fields", step, out.fields, hasMembers)
	if some, has := step["some"]; has && !anyLike(some, out.events) {
		differ("no event of %d is like some", len(out.events))
	}
	if len(differences) == 0 {
		return ""
	}
	return differences[0]
}

func part(differ func(string, ...any), what, expected, found string) {
	if !strings.Contains(found, expected) {
		differ("%s is %s, without %s", what, found, expected)
	}
}

func members(differ func(string, ...any), what string, expected any, found map[string]any) {
	wanted, _ := expected.(map[string]any)
	for name, value := range wanted {
		if !reflect.DeepEqual(value, found[name]) {
			differ("%s.%s is %v, not %v", what, name, found[name], value)
		}
	}
}

func lists(differ func(string, ...any), name string, step step, found []map[string]any, fits func(any, map[string]any) bool) {
	expected, has := step[name].([]any)
	if !has {
		return
	}
	if len(expected) != len(found) {
		differ("%d %s, not %d", len(found), name, len(expected))
		return
	}
	for i := range expected {
		if !fits(expected[i], found[i]) {
			differ("%s[%d] is %v, not like %v", name, i, found[i], expected[i])
		}
	}
}

func hasMembers(expected any, found map[string]any) bool {
	fits := true
	members(func(string, ...any) { fits = false }, "", expected, found)
	return fits
}

func isLike(expected any, event map[string]any) bool {
	wanted := map[string]any{"kind": "sample"}
	has := ""
	for name, value := range expected.(map[string]any) {
		if name == "has" {
			has = value.(string)
		} else {
			wanted[name] = value
		}
	}
	return hasMembers(wanted, event) && strings.Contains(event["data"].(string), has)
}

func anyLike(expected any, events []map[string]any) bool {
	for _, event := range events {
		if isLike(expected, event) {
			return true
		}
	}
	return false
}
