// Renders a Helm chart without Helm: the templates of its folder with the functions of Helm that charts use, which are
// those of Sprig and a few more. Prints each document as a line of JSON.
//
//	render CHART [--set key=value]... [--values FILE]
//	render FILE.yaml                                       a manifest that needs no rendering
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

func read(path string) map[string]interface{} {
	data, err := os.ReadFile(path)
	die(err)
	out := map[string]interface{}{}
	die(yaml.Unmarshal(data, &out))
	return out
}

func die(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// merge puts what is in `more` over `into`, table by table.
func merge(into, more map[string]interface{}) {
	for key, value := range more {
		below, isTable := value.(map[string]interface{})
		old, wasTable := into[key].(map[string]interface{})
		if isTable && wasTable {
			merge(old, below)
		} else {
			into[key] = value
		}
	}
}

func set(values map[string]interface{}, path, value string) {
	parts := strings.Split(path, ".")
	for _, part := range parts[:len(parts)-1] {
		below, ok := values[part].(map[string]interface{})
		if !ok {
			below = map[string]interface{}{}
			values[part] = below
		}
		values = below
	}
	var typed interface{}
	die(yaml.Unmarshal([]byte(value), &typed))
	values[parts[len(parts)-1]] = typed
}

func toYaml(value interface{}) (string, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	err := encoder.Encode(value)
	return strings.TrimSuffix(out.String(), "\n"), err
}

// show prints each document of a file as a line of JSON.
func show(name string, text []byte) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document map[string]interface{}
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			die(fmt.Errorf("%s: %v", name, err))
		}
		if document == nil {
			continue
		}
		line, err := json.Marshal(document)
		die(err)
		fmt.Println(string(line))
	}
}

func main() {
	chart := os.Args[1]
	if strings.HasSuffix(chart, ".yaml") {
		text, err := os.ReadFile(chart)
		die(err)
		show(chart, text)
		return
	}
	values := read(filepath.Join(chart, "values.yaml"))
	for at := 2; at+1 < len(os.Args); at += 2 {
		switch os.Args[at] {
		case "--set":
			path, value, _ := strings.Cut(os.Args[at+1], "=")
			set(values, path, value)
		case "--values":
			merge(values, read(os.Args[at+1]))
		}
	}
	about := read(filepath.Join(chart, "Chart.yaml"))
	info := map[string]interface{}{}
	for key, value := range about {
		info[strings.ToUpper(key[:1])+key[1:]] = value
	}
	data := map[string]interface{}{
		"Values":  values,
		"Chart":   info,
		"Release": map[string]interface{}{"Name": "release", "Namespace": "default", "Service": "Helm", "IsInstall": true, "Revision": 1},
	}
	all := template.New("chart").Option("missingkey=zero")
	functions := sprig.TxtFuncMap()
	// Helm takes these away: a chart must not read the machine it is rendered on.
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["toYaml"] = toYaml
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	functions["include"] = func(name string, data interface{}) (string, error) {
		var out strings.Builder
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	all.Funcs(functions)
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	die(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		die(err)
		_, err = all.New(filepath.Base(file)).Parse(string(text))
		die(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var out bytes.Buffer
		die(all.ExecuteTemplate(&out, name, data))
		// "<no value>" is what a value that is not there becomes; Helm writes nothing, and the document is wrong either way.
		if strings.Contains(out.String(), "<no value>") {
			die(fmt.Errorf("%s uses a value that is not in values.yaml:\n%s", name, out.String()))
		}
		if strings.HasSuffix(name, ".yaml") {
			show(name, out.Bytes())
		}
	}
}
