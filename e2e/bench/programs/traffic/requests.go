package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand"
	"strings"
)

// Requests are templates of one shape each, whose ids and first words are written anew each time: no two are equal, so that
// nothing on their way can live off a cache.
type Requests struct {
	random    *rand.Rand
	templates []template
	count     uint64
}

type template struct {
	bytes   []byte
	trace   int // where in it the ids stand
	request int
	prompt  int
}

const (
	variety    = 512
	shortest   = 100 // bytes of a prompt
	longest    = 2000
	somewhere  = "@@@@@@@@@@@@@@@@" // stands where an id will
	digits     = "0123456789abcdef"
	vocabulary = "the a model token cache of router prompt answer with and is fast slow street river seven blue green why how explain " +
		"write code in python about kubernetes please summarise this text for me"
)

// Target is whom to ask, and with what.
type Target struct {
	address string
	key     string
	model   string
	stream  bool
	chunks  int
	step    int
}

func newRequests(target Target, seed int64) *Requests {
	requests := &Requests{random: rand.New(rand.NewSource(seed))}
	for range variety {
		requests.templates = append(requests.templates, newTemplate(target, requests.text()))
	}
	return requests
}

// text has a length between the bounds, each doubling of it as likely.
func (r *Requests) text() string {
	size := int(shortest * math.Pow(longest/shortest, r.random.Float64()))
	words := strings.Fields(vocabulary)
	var text strings.Builder
	for text.Len() < size {
		text.WriteString(words[r.random.Intn(len(words))] + " ")
	}
	return text.String()
}

func newTemplate(target Target, text string) template {
	body := fmt.Sprintf(`{"messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"`+askMark+somewhere+` %s"}],`+
		`"model":"%s","max_tokens":%d,"seed":%d,"stream":%t,"temperature":0.7}`,
		text, target.model, target.chunks, target.step, target.stream)
	if target.stream {
		body = strings.Replace(body, `"temperature"`, `"stream_options":{"include_usage":true},"temperature"`, 1)
	}
	head := fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\nContent-Type: application/json\r\n"+
		"User-Agent: OpenAI/Python 2.8.1\r\nAuthorization: Bearer %s\r\ntraceparent: 00-0000000000000000"+somewhere+"-00f067aa0ba902b7-01\r\n"+
		"x-request-id: "+somewhere+"\r\nContent-Length: %d\r\n\r\n", target.address, target.key, len(body))
	whole := []byte(head + body)
	made := template{bytes: whole}
	for at, place := 0, 0; place < 3; place++ {
		at += bytes.Index(whole[at:], []byte(somewhere))
		*[]*int{&made.trace, &made.request, &made.prompt}[place] = at
		at += len(somewhere)
	}
	return made
}

// next writes a request behind out and gives back the id that its answer must have.
func (r *Requests) next(out []byte) ([]byte, [idSize]byte) {
	r.count++
	chosen := &r.templates[r.random.Intn(len(r.templates))]
	var id [idSize]byte
	for place, value := idSize-1, r.count<<20|uint64(r.random.Intn(1<<20)); place >= 0; place-- {
		id[place] = digits[value&15]
		value >>= 4
	}
	start := len(out)
	out = append(out, chosen.bytes...)
	for _, at := range [...]int{chosen.trace, chosen.request, chosen.prompt} {
		copy(out[start+at:], id[:])
	}
	return out, id
}
