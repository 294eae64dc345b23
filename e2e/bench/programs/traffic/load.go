package main

import (
	"flag"
	"math"
	"slices"
	"syscall"
	"time"
)

// Load is what the kinds of load have in common: whom they ask, how long, and what they count.
type Load struct {
	loop     *Loop
	address  *syscall.SockaddrInet4
	requests *Requests
	pids     Watched
	warm     time.Duration
	seconds  time.Duration
	counting bool
	count    Count
	began    time.Duration
	cpu      float64
}

// Count is what a measurement comes to.
type Count struct {
	Requests   int64   `json:"requests"`
	Errors     int64   `json:"errors"`
	FirstError string  `json:"first_error,omitempty"`
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"cpu_s"`
	RSS        float64 `json:"rss_mb,omitempty"`
	Events     int64   `json:"events,omitempty"`
	Reads      int64   `json:"reads,omitempty"`
	Open       int     `json:"open,omitempty"`
	P50        float64 `json:"p50_ms,omitempty"`
	P99        float64 `json:"p99_ms,omitempty"`
	Aborted    int64   `json:"aborted,omitempty"`
}

// newLoad parses what all kinds have, after what the caller has declared.
func newLoad(flags *flag.FlagSet, arguments []string, target Target) *Load {
	to := flags.String("to", "", "HOST:PORT to ask")
	key := flags.String("key", "none", "the API key to send")
	model := flags.String("model", "llama", "the model to ask for")
	warm := flags.Duration("warm", time.Second/2, "for how long nothing is counted")
	seconds := flags.Duration("seconds", 3*time.Second, "for how long it is")
	pids := flags.String("pids", "", "processes whose CPU time and memory to read, by commas")
	seed := flags.Int64("seed", 1, "of what is random")
	step := flags.Int("step", target.step, "milliseconds between the chunks of a stream")
	_ = flags.Parse(arguments)
	target.address, target.key, target.model, target.step = *to, *key, *model, *step
	return &Load{
		loop: newLoop(), address: resolve(*to), requests: newRequests(target, *seed),
		pids: parseWatched(*pids), warm: *warm, seconds: *seconds,
	}
}

// run until the time is up.
func (l *Load) run() Count {
	start := l.loop.now() + l.warm
	l.until(start)
	l.begin()
	l.until(start + l.seconds)
	return l.end()
}

func (l *Load) until(moment time.Duration) {
	l.loop.wake = moment
	for l.loop.now() < moment {
		l.loop.turn()
	}
}

func (l *Load) begin() {
	l.counting = true
	l.began, l.cpu = l.loop.now(), l.pids.cpu()
}

func (l *Load) end() Count {
	l.count.CPU = l.pids.cpu() - l.cpu
	l.count.Seconds = (l.loop.now() - l.began).Seconds()
	l.count.RSS = l.pids.resident()
	return l.count
}

func (l *Load) problem(text string) {
	l.count.Errors++
	if l.count.FirstError == "" {
		l.count.FirstError = text
	}
}

// --- As fast as the answers come

type closedLoad struct{ *Load }

func runClosed(flags *flag.FlagSet, arguments []string) any {
	connections := flags.Int("connections", 64, "requests at a time")
	load := closedLoad{newLoad(flags, arguments, Target{chunks: 128, step: 25})}
	for range *connections {
		dial(load.loop, load.address, load, false)
	}
	return load.run()
}

func (l closedLoad) connected(c *Client) { c.ask(l.requests, l.loop.now()) }
func (l closedLoad) event(*Client)       {}

func (l closedLoad) ended(c *Client) {
	if l.counting {
		l.count.Requests++
	}
	if !c.answer.closes {
		c.ask(l.requests, 0)
	}
}

func (l closedLoad) failed(c *Client, problem string) {
	if c.busy || !c.opened {
		l.problem(problem)
	}
	l.loop.at(l.loop.turned+10, again{l.Load, l, false})
}

// again opens another connection in place of a lost one, a moment later.
type again struct {
	load     *Load
	driver   Driver
	streamed bool
}

func (a again) fire() { dial(a.load.loop, a.load.address, a.driver, a.streamed) }

// --- At a rate, whether or not answers come

type openLoad struct {
	*Load
	rate      float64
	idle      []*Client
	late      []time.Duration // due, but there was no connection yet
	latencies []float64
	open      int
}

const mostConnections = 4096

func runOpen(flags *flag.FlagSet, arguments []string) any {
	rate := flags.Float64("rate", 1000, "requests a second")
	load := &openLoad{Load: newLoad(flags, arguments, Target{chunks: 128, step: 25}), rate: *rate}
	for range 64 {
		load.dial()
	}
	load.until(200 * time.Millisecond) // connections are no part of what is timed
	start := load.loop.now() + load.warm
	load.arrivals(start)
	load.begin()
	load.arrivals(start + load.seconds)
	count := load.end()
	for patience := load.loop.now() + 2*time.Second; load.owed() && load.loop.now() < patience; {
		load.until(load.loop.now() + 10*time.Millisecond)
	}
	slices.Sort(load.latencies)
	count.Requests, count.Open = int64(len(load.latencies)), load.open-len(load.idle)+len(load.late)
	count.Errors, count.FirstError = load.count.Errors, load.count.FirstError
	count.P50, count.P99 = percentile(load.latencies, 0.5), percentile(load.latencies, 0.99)
	return count
}

// arrivals are a Poisson process: clients do not wait for one another.
func (l *openLoad) arrivals(end time.Duration) {
	due := l.loop.now()
	for {
		due += time.Duration(-math.Log(1-l.requests.random.Float64()) / l.rate * 1e9)
		if due >= end {
			break
		}
		l.until(due)
		l.arrive(due)
	}
	l.until(end)
}

func (l *openLoad) arrive(due time.Duration) {
	if last := len(l.idle) - 1; last >= 0 {
		client := l.idle[last]
		l.idle = l.idle[:last]
		client.ask(l.requests, due)
		return
	}
	l.late = append(l.late, due)
	if l.open < mostConnections {
		l.dial()
	}
}

func (l *openLoad) dial() {
	l.open++
	dial(l.loop, l.address, l, false)
}

func (l *openLoad) owed() bool { return l.open > len(l.idle) || len(l.late) > 0 }

func (l *openLoad) connected(c *Client) {
	if len(l.late) > 0 {
		due := l.late[0]
		l.late = l.late[1:]
		c.ask(l.requests, due)
		return
	}
	l.idle = append(l.idle, c)
}

func (l *openLoad) event(*Client) {}

func (l *openLoad) ended(c *Client) {
	if l.counting && c.began >= l.began {
		l.latencies = append(l.latencies, float64(l.loop.now()-c.began)/1e6)
	}
	if c.answer.closes {
		return
	}
	l.connected(c)
}

func (l *openLoad) failed(c *Client, problem string) {
	l.open--
	if c.busy || !c.opened {
		l.problem(problem)
	} else {
		l.idle = slices.DeleteFunc(l.idle, func(other *Client) bool { return other == c })
	}
}

// percentile of sorted values, by the nearest rank; 0 of none.
func percentile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}

// --- Streams that last

type streamLoad struct {
	*Load
	clients []*Client
	opened  int // connections
	started int // answers
}

func runStreams(flags *flag.FlagSet, arguments []string) any {
	streams := flags.Int("streams", 128, "open at a time")
	patience := flags.Duration("patience", 30*time.Second, "how long they may take to open")
	load := &streamLoad{Load: newLoad(flags, arguments, Target{stream: true, chunks: 1_000_000, step: 25})}
	for deadline := load.loop.now() + *patience; load.started < *streams && load.loop.now() < deadline; {
		// No more than a few at a time: a queue of connections that is full costs seconds.
		for len(load.clients) < min(*streams, load.opened+64) {
			load.clients = append(load.clients, dial(load.loop, load.address, load, true))
		}
		load.until(load.loop.now() + time.Millisecond)
	}
	load.until(load.loop.now() + load.warm)
	load.begin()
	before := load.pieces()
	load.until(load.loop.now() + load.seconds)
	count := load.end()
	count.Reads = load.pieces() - before
	count.Requests = int64(load.started)
	return count
}

func (l *streamLoad) pieces() int64 {
	total := 0
	for _, client := range l.clients {
		total += client.pieces
	}
	return int64(total)
}

func (l *streamLoad) connected(c *Client) {
	l.opened++
	c.ask(l.requests, 0)
}

func (l *streamLoad) event(c *Client) {
	if c.token == 1 {
		l.started++
		l.count.Open++
	}
	if l.counting {
		l.count.Events++
	}
}

func (l *streamLoad) ended(*Client) { l.problem("a stream ended early") }

func (l *streamLoad) failed(c *Client, problem string) {
	if c.token > 0 {
		l.count.Open--
	}
	l.problem(problem)
}
