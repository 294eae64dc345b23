package main

import (
	"flag"
	"syscall"
	"time"
)

// Clients that go away at any moment: in the middle of a request, of the wait, of a stream; with and without manners.
type abortLoad struct {
	*Load
	streams   *Requests
	target    int64
	began     int64
	clients   int
	completed int64
}

const (
	toTheEnd = iota
	afterHalfARequest
	atOnce
	afterAWhile
	afterSomeEvents
	byHalfClosing
)

// visit is a client's connection and what it is going to do on it.
type visit struct {
	load   *abortLoad
	client *Client
	plan   int
	after  int // milliseconds, or events
	rude   bool
}

func runAborts(flags *flag.FlagSet, arguments []string) any {
	total := flags.Int64("requests", 100_000, "to begin")
	connections := flags.Int("connections", 128, "at a time")
	limit := flags.Duration("limit", 5*time.Minute, "give up after")
	load := &abortLoad{Load: newLoad(flags, arguments, Target{chunks: 128, step: 2})}
	load.target = *total
	target := Target{address: flags.Lookup("to").Value.String(), key: flags.Lookup("key").Value.String(),
		model: flags.Lookup("model").Value.String(), stream: true, chunks: 8, step: 2}
	load.streams = newRequests(target, 2)
	load.requests.count, load.streams.count = 0, 1<<32
	load.Load.begin()
	for range *connections {
		load.visit()
	}
	for load.clients > 0 && load.loop.now() < *limit {
		load.until(load.loop.now() + 10*time.Millisecond)
	}
	count := load.end()
	count.Requests, count.Aborted = load.began, load.began-load.completed-load.count.Errors
	count.Open = load.clients
	return count
}

// visit opens a connection, unless enough requests have begun.
func (l *abortLoad) visit() {
	if l.began >= l.target {
		return
	}
	l.clients++
	v := &visit{load: l}
	v.choose()
	v.client = dial(l.loop, l.address, v, v.streams())
}

// choose what comes of the next request: half of them end as they should.
func (v *visit) choose() {
	random := v.load.requests.random
	v.rude = random.Intn(2) == 0
	v.plan = [...]int{toTheEnd, toTheEnd, toTheEnd, toTheEnd, toTheEnd, afterHalfARequest, atOnce, afterAWhile, afterSomeEvents, byHalfClosing}[random.Intn(10)]
	v.after = 1 + random.Intn(12)
	if v.plan == afterSomeEvents {
		v.after = 1 + random.Intn(7)
	}
}

func (v *visit) streams() bool {
	return v.plan == afterSomeEvents || v.plan == toTheEnd && v.after == 1
}

func (v *visit) connected(c *Client) {
	v.client = c
	l := v.load
	l.began++
	requests := l.requests
	if c.streamed = v.streams(); c.streamed {
		requests = l.streams
	}
	c.out, c.id = requests.next(c.out[:0])
	c.begin(0)
	if v.plan == afterHalfARequest {
		c.out = c.out[:1+l.requests.random.Intn(len(c.out)-1)]
	}
	c.flush()
	switch v.plan {
	case atOnce:
		v.leave()
	case afterHalfARequest, afterAWhile:
		l.loop.at(l.loop.turned+int64(v.after), &departure{v, c.id})
	case byHalfClosing:
		if c.fd >= 0 {
			_ = syscall.Shutdown(c.fd, syscall.SHUT_WR)
		}
	}
}

// departure is due unless the answer comes first and the connection is at another request.
type departure struct {
	visit *visit
	id    [idSize]byte
}

func (d *departure) fire() {
	if c := d.visit.client; c.fd >= 0 && c.id == d.id && c.busy {
		d.visit.leave()
	}
}

func (v *visit) leave() {
	if v.client.fd < 0 {
		return
	}
	if v.rude {
		v.client.reset()
	} else {
		v.client.drop()
	}
	v.load.clients--
	v.load.visit()
}

func (v *visit) event(c *Client) {
	if v.plan == afterSomeEvents && c.token >= v.after {
		v.leave()
	}
}

func (v *visit) ended(c *Client) {
	l := v.load
	l.completed++
	if l.began >= l.target || c.answer.closes || v.plan == byHalfClosing {
		v.rude = false
		v.leave()
		return
	}
	v.choose()
	v.connected(c)
}

func (v *visit) failed(c *Client, problem string) {
	if v.plan == toTheEnd && c.busy {
		v.load.problem(problem)
	}
	v.load.clients--
	v.load.visit()
}
