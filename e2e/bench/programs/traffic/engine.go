package main

import (
	"bytes"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Engines answer as vLLM does, without thinking. Of a request they read an id in its prompt (comes back as the answer's),
// `stream`, `max_tokens` (how many chunks) and `seed` (milliseconds from one chunk to the next), which every router passes on,
// though some write the JSON anew. Like a real engine, one writes a chunk to each of its streams in the same step, and its
// steps are not those of the others.
type Engines struct {
	loop      *Loop
	answers   [][]byte
	inFlight  []int
	requests  int64
	abandoned int64
	open      int
}

const (
	idSize   = 16
	idMark   = "chatcmpl-"
	noID     = "0000000000000000"
	askMark  = "ask-" // stands before the id in a prompt
	sequence = "tkn"  // an event's content is this and its number, seven digits
)

func runEngines(flags *flag.FlagSet, arguments []string) any {
	ports := flags.String("ports", "", "one an engine, by commas")
	_ = flags.Parse(arguments)
	list := strings.Split(*ports, ",")
	engines := &Engines{loop: newLoop(), answers: answers(), inFlight: make([]int, len(list))}
	for number, text := range list {
		port, err := strconv.Atoi(text)
		if err != nil {
			fail(fmt.Sprintf("--ports: %q is not a number", text))
		}
		engines.listen(number, port)
	}
	fmt.Println(`"ready"`)
	for {
		engines.loop.turn()
	}
}

// answers differ in length, as real ones do.
func answers() [][]byte {
	var made [][]byte
	for number := range 16 {
		text := strings.Repeat("All work and no play makes a dull model. ", 3+number)
		tokens := len(text) / 4
		made = append(made, fmt.Appendf(nil, `{"id":"`+idMark+noID+`","object":"chat.completion","created":1763700000,"model":"llama",`+
			`"choices":[{"index":0,"message":{"role":"assistant","content":"%s","refusal":null,"tool_calls":[]},"logprobs":null,`+
			`"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d,`+
			`"prompt_tokens_details":null},"prompt_logprobs":null}`, text, 50+number, 50+number+tokens, tokens))
	}
	return made
}

type listener struct {
	engines *Engines
	number  int
	fd      int
}

func (e *Engines) listen(number, port int) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = syscall.Listen(fd, 4096)
	}
	if err != nil {
		fail(fmt.Sprintf("port %d: %v", port, err))
	}
	e.loop.add(fd, &listener{e, number, fd})
}

func (l *listener) ready(uint32) {
	for {
		fd, _, err := syscall.Accept4(l.fd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		noDelay(fd)
		l.engines.open++
		l.engines.loop.add(fd, &served{engines: l.engines, number: l.number, fd: fd})
	}
}

// served is a router's connection to an engine.
type served struct {
	engines *Engines
	number  int
	fd      int
	in, out []byte
	stream  *stream
	gone    bool
}

func (s *served) ready(events uint32) {
	if events&syscall.EPOLLOUT != 0 && len(s.out) > 0 {
		s.flush()
	}
	for !s.gone && events&^uint32(syscall.EPOLLOUT) != 0 {
		data, gone := s.engines.loop.read(s.fd)
		if gone {
			s.close()
			return
		}
		if len(s.in) > 0 {
			s.in = append(s.in, data...)
			rest := s.take(s.in)
			s.in = append(s.in[:0], rest...)
		} else if rest := s.take(data); len(rest) > 0 {
			s.in = append(s.in, rest...)
		}
		if len(data) < len(s.engines.loop.scratch) {
			return
		}
	}
}

// take answers the whole requests in data and gives back what is left.
func (s *served) take(data []byte) []byte {
	for s.stream == nil && !s.gone {
		end := bytes.Index(data, []byte("\r\n\r\n")) + 4
		if end < 4 {
			break
		}
		size := contentLength(data[:end])
		if size < 0 {
			s.send(plain("501 Not Implemented", `{"error":"this engine reads bodies with a Content-Length"}`))
			s.close()
			return nil
		}
		if len(data) < end+size {
			break
		}
		head, body := data[:end], data[end:end+size]
		data = data[end+size:]
		if head[0] == 'P' {
			s.complete(body)
		} else {
			s.get(head)
		}
	}
	return data
}

func (s *served) complete(body []byte) {
	e := s.engines
	e.requests++
	e.inFlight[s.number]++
	id := noID
	if _, rest, found := bytes.Cut(body, []byte(askMark)); found && len(rest) > idSize {
		id = string(rest[:idSize])
	}
	if !bytes.HasPrefix(after(body, `"stream":`), []byte("true")) {
		answer := e.answers[int(id[idSize-1])%len(e.answers)]
		out := fmt.Appendf(make([]byte, 0, 256+len(answer)), "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"+
			"content-length: %d\r\ncontent-type: application/json\r\nx-tokenfleet-in-flight: %d\r\n\r\n", len(answer), e.inFlight[s.number])
		start := len(out) + len(`{"id":"`+idMark)
		out = append(out, answer...)
		copy(out[start:], id)
		e.inFlight[s.number]--
		s.send(out)
		return
	}
	s.stream = &stream{to: s, id: id, chunks: number(body, `_tokens":`, 16), step: number(body, `"seed":`, 25)}
	s.stream.usage = bytes.Contains(body, []byte("include_usage"))
	s.send(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"+
		"content-type: text/event-stream; charset=utf-8\r\nx-tokenfleet-in-flight: %d\r\ntransfer-encoding: chunked\r\n\r\n", e.inFlight[s.number]))
	s.stream.next()
}

func (s *served) get(head []byte) {
	path, _, _ := strings.Cut(strings.TrimPrefix(string(head[:bytes.IndexByte(head, '\r')]), "GET "), " ")
	e := s.engines
	switch {
	case path == "/v1/models":
		s.send(plain("200 OK", `{"object":"list","data":[{"id":"llama","object":"model","created":1763700000,"owned_by":"vllm","max_model_len":8192}]}`))
	case path == "/stats":
		total := 0
		for _, count := range e.inFlight {
			total += count
		}
		s.send(plain("200 OK", fmt.Sprintf(`{"in_flight":%d,"requests":%d,"abandoned":%d,"connections":%d}`,
			total, e.requests, e.abandoned, e.open)))
	case strings.Contains(path, "info"):
		s.send(plain("200 OK", `{"model_path":"llama","tokenizer_path":"llama","is_generation":true,"served_model_name":"llama","max_model_len":8192}`))
	case strings.HasPrefix(path, "/health"), path == "/version", path == "/ping", path == "/":
		s.send(plain("200 OK", `{"version":"0.11.0"}`))
	default:
		s.send(plain("404 Not Found", `{"error":"no such path"}`))
	}
}

func plain(status, body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", status, len(body), body)
}

func (s *served) send(data []byte) {
	if len(s.out) > 0 {
		s.out = append(s.out, data...)
		return
	}
	size, gone := write(s.fd, data)
	if gone {
		s.close()
	} else if size < len(data) {
		s.out = append(s.out, data[size:]...)
	}
}

func (s *served) flush() {
	size, gone := write(s.fd, s.out)
	if gone {
		s.close()
		return
	}
	s.out = s.out[size:]
}

func (s *served) close() {
	if s.gone {
		return
	}
	s.gone = true
	s.engines.open--
	if s.stream != nil {
		s.engines.inFlight[s.number]--
		s.engines.abandoned++
		s.stream = nil
	}
	s.engines.loop.close(s.fd)
}

// stream is an answer that takes its time.
type stream struct {
	to           *served
	id           string
	chunks, sent int
	step         int
	usage        bool
}

// next waits for the engine's next step.
func (s *stream) next() {
	if s.to.gone {
		return
	}
	step := int64(max(1, s.step))
	offset := step * int64(s.to.number) / int64(len(s.to.engines.inFlight))
	now := int64(s.to.engines.loop.now() / time.Millisecond)
	s.to.engines.loop.at(((now-offset)/step+1)*step+offset, s)
}

func (s *stream) fire() {
	to := s.to
	if to.gone || to.stream != s {
		return
	}
	if len(to.out) > 0 { // the reader is slow; a real engine's server would hold its tokens back too
		s.next()
		return
	}
	if s.sent < s.chunks {
		s.event(fmt.Sprintf(`{"id":"`+idMark+`%s","object":"chat.completion.chunk","created":1763700000,"model":"llama","choices":[{"index":0,`+
			`"delta":{"content":"%s%07d"},"logprobs":null,"finish_reason":null,"token_ids":null}]}`, s.id, sequence, s.sent))
		s.sent++
		s.next()
		return
	}
	s.finish()
}

// finish writes the last events in one go, as the end of a stream comes.
func (s *stream) finish() {
	to := s.to
	to.stream = nil
	to.engines.inFlight[to.number]--
	s.event(fmt.Sprintf(`{"id":"`+idMark+`%s","object":"chat.completion.chunk","created":1763700000,"model":"llama","choices":[{"index":0,`+
		`"delta":{"content":""},"logprobs":null,"finish_reason":"length","stop_reason":null}]}`, s.id))
	if s.usage {
		s.event(fmt.Sprintf(`{"id":"`+idMark+`%s","object":"chat.completion.chunk","created":1763700000,"model":"llama","choices":[],`+
			`"usage":{"prompt_tokens":50,"total_tokens":%d,"completion_tokens":%d}}`, s.id, 50+s.chunks, s.chunks))
	}
	s.event("[DONE]")
	to.send([]byte("0\r\n\r\n"))
}

func (s *stream) event(data string) {
	if !s.to.gone {
		s.to.send(fmt.Appendf(make([]byte, 0, len(data)+24), "%x\r\ndata: %s\n\n\r\n", len(data)+8, data))
	}
}

// after gives what follows the first name and its spaces.
func after(body []byte, name string) []byte {
	_, rest, _ := bytes.Cut(body, []byte(name))
	return bytes.TrimLeft(rest, " ")
}

func number(body []byte, name string, fallback int) int {
	rest := after(body, name)
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	if value, err := strconv.Atoi(string(rest[:end])); err == nil {
		return value
	}
	return fallback
}
