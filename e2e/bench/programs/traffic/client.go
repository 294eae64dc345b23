package main

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

// Driver decides what a client does next.
type Driver interface {
	connected(*Client)
	// event of a stream: each with the next token in it
	event(*Client)
	// ended: the answer is whole and right
	ended(*Client)
	// failed: it is not, or the connection is lost; the client's connection is closed
	failed(*Client, string)
}

// Client is one connection of a client and the request that is under way on it. It checks the whole answer: its status,
// framing, id, and of a stream each token in order and the end.
type Client struct {
	loop     *Loop
	driver   Driver
	fd       int
	out      []byte
	answer   Answer
	body     []byte
	id       [idSize]byte
	began    time.Duration
	busy     bool
	streamed bool
	token    int
	finished bool // [DONE] has come
	opened   bool
	number   int
	pieces   int // of a body, as many as reads gave
}

func dial(loop *Loop, address *syscall.SockaddrInet4, driver Driver, streamed bool) *Client {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		fail("socket: " + err.Error())
	}
	noDelay(fd)
	client := &Client{loop: loop, driver: driver, fd: fd, streamed: streamed}
	if err := syscall.Connect(fd, address); err != nil && err != syscall.EINPROGRESS {
		fail("connect: " + err.Error())
	}
	loop.add(fd, client)
	return client
}

func resolve(address string) *syscall.SockaddrInet4 {
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host).To4()
	number, problem := strconv.Atoi(port)
	if err != nil || ip == nil || problem != nil {
		fail(fmt.Sprintf("--to %q is not an IPv4 address and a port", address))
	}
	return &syscall.SockaddrInet4{Port: number, Addr: [4]byte(ip)}
}

// ask sends a request; began is the moment from which its answer is timed.
func (c *Client) ask(requests *Requests, began time.Duration) {
	c.out, c.id = requests.next(c.out[:0])
	c.begin(began)
	c.flush()
}

func (c *Client) begin(began time.Duration) {
	c.began, c.busy, c.finished, c.token = began, true, false, 0
	c.answer.reset()
	c.body = c.body[:0]
}

func (c *Client) flush() {
	size, gone := write(c.fd, c.out)
	if gone {
		c.lose("the connection was lost while a request was sent")
		return
	}
	c.out = c.out[size:]
}

func (c *Client) ready(events uint32) {
	if !c.opened {
		if events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
			c.lose("cannot connect")
			return
		}
		if events&syscall.EPOLLOUT == 0 {
			return
		}
		c.opened = true
		c.driver.connected(c)
		return
	}
	if events&syscall.EPOLLOUT != 0 && len(c.out) > 0 {
		c.flush()
	}
	for c.fd >= 0 && events&(syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		data, gone := c.loop.read(c.fd)
		size := len(data)
		if size > 0 {
			c.take(data)
		}
		if gone {
			c.lose("the connection was closed in the middle of an answer")
			return
		}
		if size < len(c.loop.scratch) && events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) == 0 {
			return
		}
	}
}

func (c *Client) take(data []byte) {
	if !c.busy {
		c.fail("something came without a request: " + string(data[:min(len(data), 200)]))
		return
	}
	rest := c.answer.feed(data, c.payload)
	switch {
	case c.fd < 0:
	case c.answer.problem != "":
		c.fail(c.answer.problem)
	case c.answer.state == done:
		c.finish(rest)
	}
}

func (c *Client) payload(data []byte) {
	c.pieces++
	if !c.streamed || c.answer.status != 200 {
		c.body = append(c.body, data...)
		return
	}
	if len(c.body) > 0 {
		c.body = append(c.body, data...)
		data = c.body
	}
	for c.fd >= 0 {
		end := bytes.Index(data, []byte("\n\n")) + 2
		if end < 2 {
			break
		}
		c.read(data[:end])
		data = data[end:]
	}
	c.body = append(c.body[:0], data...)
}

// read checks an event of a stream.
func (c *Client) read(event []byte) {
	if bytes.HasPrefix(event, []byte("data: [DONE]")) {
		c.finished = true
		return
	}
	at := bytes.Index(event, []byte(sequence))
	if at < 0 {
		return // the events at the end have no token, those with a role at the start neither
	}
	if number := decimal(event[at+len(sequence) : min(at+len(sequence)+7, len(event))]); number != c.token {
		c.fail(fmt.Sprintf("token %d where %d is due", number, c.token))
		return
	}
	c.token++
	c.driver.event(c)
}

func (c *Client) finish(rest []byte) {
	switch {
	case c.answer.status != 200:
		c.fail(fmt.Sprintf("status %d: %s", c.answer.status, c.body[:min(len(c.body), 300)]))
	case c.streamed && !c.finished:
		c.fail("a stream ended without [DONE]")
	case !c.streamed && !bytes.Contains(c.body[:min(len(c.body), 4096)], c.id[:]):
		c.fail(fmt.Sprintf("the answer is not that to request %s: %s", c.id, c.body[:min(len(c.body), 300)]))
	case !c.streamed && (len(c.body) < 2 || c.body[len(c.body)-1] != '}'):
		c.fail("the answer's JSON is not whole")
	case len(rest) > 0:
		c.fail("something follows the answer")
	default:
		c.busy = false
		c.driver.ended(c)
		if c.answer.closes && c.fd >= 0 {
			c.lose("the connection was closed as announced")
		}
	}
}

func (c *Client) fail(problem string) {
	if c.fd >= 0 {
		c.drop()
		c.driver.failed(c, problem)
	}
}

func (c *Client) lose(problem string) { c.fail(problem) }

// drop closes the connection as a client does that has had enough.
func (c *Client) drop() {
	if c.fd >= 0 {
		c.loop.close(c.fd)
		c.fd = -1
	}
}

// reset closes it without the manners of TCP.
func (c *Client) reset() {
	if c.fd >= 0 {
		_ = syscall.SetsockoptLinger(c.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		c.drop()
	}
}
