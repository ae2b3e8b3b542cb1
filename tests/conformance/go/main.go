// The Go runner of tests/conformance: executes the table with the packages of a directory and prints the results.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
)

// step is a step of the table.
type step map[string]any

func (s step) text(name string) string {
	text, _ := s[name].(string)
	return text
}

func (s step) number(name string) int {
	number, _ := s[name].(float64)
	return int(number)
}

func (s step) on(name string) bool {
	on, _ := s[name].(bool)
	return on
}

func (s step) has(name string) bool {
	_, has := s[name]
	return has
}

func (s step) words(name string) []string {
	var words []string
	for _, word := range s.list(name) {
		words = append(words, word.(string))
	}
	return words
}

func (s step) list(name string) []any {
	list, _ := s[name].([]any)
	return list
}

type table struct {
	Setups    map[string][]step
	Scenarios []struct {
		Name, Setup string
		Steps       []step
	}
}

func main() {
	content, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	text := strings.NewReplacer("$pid", fmt.Sprint(os.Getpid()), "$packages", os.Args[2]).Replace(string(content))
	var table table
	if err := json.Unmarshal([]byte(text), &table); err != nil {
		log.Fatal(err)
	}
	for _, scenario := range table.Scenarios {
		steps := append(append([]step{}, table.Setups[scenario.Setup]...), scenario.Steps...)
		found := strings.ReplaceAll(run(steps), "\n", " ")
		fmt.Printf("%s\t%s\n", scenario.Name, found)
	}
}

// run returns "ok" or the first difference.
func run(steps []step) string {
	host := &host{began: monotonic()}
	defer host.end()
	difference := host.firstDifference(steps)
	if host.inside != "" {
		return host.inside
	}
	if difference != "" {
		return difference
	}
	return "ok"
}

func (h *host) firstDifference(steps []step) string {
	for i, step := range steps {
		out := h.take(step)
		if difference := compare(step, out); difference != "" {
			return fmt.Sprintf("step %d, %s: %s", i+1, step.text("call"), difference)
		}
	}
	return ""
}
