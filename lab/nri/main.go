// SPDX-License-Identifier: Apache-2.0

// A runtime's half of NRI without a runtime: containerd's adaptation package,
// told by lines of JSON on its input when a container starts.
//
//	{"id": …, "name": …, "uid": …, "pid": …}   a container starts
//
// It answers on its output, a line each:
//
//	{"event": "listening"}                      plugins may connect
//	{"event": "synchronized", "error": …}       one has, and got what runs
//	{"event": "started", "id": …, "seconds": …, "error": …}
//
// Starts are made at once, each by its own goroutine; it ends with its input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
)

type container struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	UID  string `json:"uid"`
	Pid  uint32 `json:"pid"`
}

type event struct {
	Event   string  `json:"event"`
	ID      string  `json:"id,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Error   string  `json:"error"`
}

var output sync.Mutex

func say(told event) {
	output.Lock()
	defer output.Unlock()
	line, _ := json.Marshal(told)
	fmt.Println(string(line))
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func pod(uid string) *adaptation.PodSandbox {
	return &adaptation.PodSandbox{Id: "sandbox-" + uid, Name: "p", Uid: uid, Namespace: "ns"}
}

// As many variables as containers of a cluster with many services have.
func variables() []string {
	env := make([]string, 60)
	for i := range env {
		env[i] = fmt.Sprintf("VARIABLE_%d=%s", i, strings.Repeat("x", 40))
	}
	return env
}

// What runs already, as a plugin that connects is told.
func running(count int) ([]*adaptation.PodSandbox, []*adaptation.Container) {
	pods, containers := []*adaptation.PodSandbox{}, []*adaptation.Container{}
	for i := 0; i < count; i++ {
		one := pod(fmt.Sprintf("running-%d", i))
		pods = append(pods, one)
		containers = append(containers, &adaptation.Container{
			Id: fmt.Sprintf("c%d", i), PodSandboxId: one.Id, Name: "c", Env: variables(),
		})
	}
	return pods, containers
}

func start(runtime *adaptation.Adaptation, one container) {
	request := &adaptation.StartContainerRequest{
		Pod: pod(one.UID),
		Container: &adaptation.Container{
			Id: one.ID, PodSandboxId: "sandbox-" + one.UID, Name: one.Name, Pid: one.Pid, Env: variables(),
		},
	}
	began := time.Now()
	err := runtime.StartContainer(context.Background(), request)
	say(event{Event: "started", ID: one.ID, Seconds: time.Since(began).Seconds(), Error: text(err)})
}

func main() {
	socket := flag.String("socket", "", "path of the socket to make")
	count := flag.Int("running", 0, "how many pods run when a plugin connects")
	patience := flag.Duration("patience", adaptation.DefaultPluginRequestTimeout, "what a plugin may take")
	flag.Parse()
	adaptation.SetPluginRequestTimeout(*patience)
	pods, containers := running(*count)
	// The first time is for plugins that the runtime runs itself: there are none.
	own := true
	synchronize := func(ctx context.Context, tell adaptation.SyncCB) error {
		_, err := tell(ctx, pods, containers)
		if own {
			own = false
			return err
		}
		say(event{Event: "synchronized", Error: text(err)})
		return err
	}
	update := func(context.Context, []*adaptation.ContainerUpdate) ([]*adaptation.ContainerUpdate, error) {
		return nil, nil
	}
	none := adaptation.WithPluginPath("/nonexistent")
	runtime, err := adaptation.New("lab", "1", synchronize, update, none,
		adaptation.WithPluginConfigPath("/nonexistent"), adaptation.WithSocketPath(*socket))
	if err == nil {
		err = runtime.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	say(event{Event: "listening"})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		one := container{}
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go start(runtime, one)
	}
}
