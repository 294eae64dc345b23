// Traffic is both ends of a router's benchmark: fake engines behind it, and clients in front of it.
//
// Each end is one thread around one epoll, without Go's scheduler in between, since it shares a core with the other end and
// must cost less than the fastest router. It knows no router: benchmarks start it, and read one line of JSON from it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
)

const usage = `usage: traffic engines --ports PORT,PORT,...
       traffic closed  --to HOST:PORT [--connections 64]               as fast as the answers come
       traffic open    --to HOST:PORT [--rate 1000]                    at a rate, whether or not answers come
       traffic streams --to HOST:PORT [--streams 128] [--step 25]      SSE streams that last
       traffic aborts  --to HOST:PORT [--requests 100000]              clients that go away in the middle
Each but the first warms up for --warm seconds, counts for --seconds (aborts: until --requests are through), reads the CPU
clocks and the memory of --pids at the same moments, and prints JSON.`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 28)
	raiseOpenFiles()
	name, flags := os.Args[1], flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	run, known := map[string]func(*flag.FlagSet, []string) any{
		"engines": runEngines, "closed": runClosed, "open": runOpen, "streams": runStreams, "aborts": runAborts,
	}[name]
	if !known {
		fail(usage)
	}
	if err := json.NewEncoder(os.Stdout).Encode(run(flags, os.Args[2:])); err != nil {
		fail(err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(2)
}

func raiseOpenFiles() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}
