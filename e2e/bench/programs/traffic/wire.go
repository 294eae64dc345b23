package main

import "bytes"

// contentLength of a head; 0 where it has none, -1 where the body is framed in another way.
func contentLength(head []byte) int {
	if value := field(head, "content-length"); value != nil {
		return decimal(value)
	}
	if field(head, "transfer-encoding") != nil {
		return -1
	}
	return 0
}

// field gives the value of a header, whose name is in lower case; nil where there is none.
func field(head []byte, name string) []byte {
	for {
		end := bytes.IndexByte(head, '\n')
		if end < 0 {
			return nil
		}
		head = head[end+1:]
		if len(head) > len(name) && head[len(name)] == ':' && equalFold(head[:len(name)], name) {
			value, _, _ := bytes.Cut(head[len(name)+1:], []byte("\r"))
			return bytes.TrimSpace(value)
		}
	}
}

func equalFold(text []byte, lower string) bool {
	for index := range text {
		letter := text[index]
		if letter >= 'A' && letter <= 'Z' {
			letter |= 0x20
		}
		if letter != lower[index] {
			return false
		}
	}
	return true
}

func decimal(text []byte) int {
	value := 0
	for _, digit := range text {
		if digit < '0' || digit > '9' {
			return -1
		}
		value = value*10 + int(digit-'0')
	}
	return value
}

func hexadecimal(text []byte) int {
	value := 0
	for _, digit := range text {
		switch {
		case digit >= '0' && digit <= '9':
			value = value<<4 | int(digit-'0')
		case digit|0x20 >= 'a' && digit|0x20 <= 'f':
			value = value<<4 | int(digit|0x20-'a'+10)
		case digit == ';' || digit == ' ':
			return value
		default:
			return -1
		}
	}
	return value
}

// Answer reads one answer as it comes. Its framing must be whole: an answer that is cut is never `done`.
type Answer struct {
	status  int
	chunked bool
	left    int // of the body, or of the chunk
	state   int
	pending []byte // a line of framing, or a head, that is not whole yet
	problem string
	closes  bool
}

const (
	inHead = iota
	inBody
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
	done
)

// feed calls payload with pieces of the body and gives back what follows the answer.
func (a *Answer) feed(data []byte, payload func([]byte)) []byte {
	for len(data) > 0 && a.state != done && a.problem == "" {
		switch a.state {
		case inBody, inChunk:
			size := min(a.left, len(data))
			payload(data[:size])
			a.left -= size
			data = data[size:]
			if a.left == 0 {
				a.state = map[bool]int{true: inChunkEnd, false: done}[a.state == inChunk]
			}
		case inHead:
			data = a.head(data)
		default:
			data = a.line(data)
		}
	}
	return data
}

func (a *Answer) head(data []byte) []byte {
	before := len(a.pending)
	whole := data
	if before > 0 {
		a.pending = append(a.pending, data...)
		whole = a.pending
	}
	end := bytes.Index(whole, []byte("\r\n\r\n")) + 4
	if end < 4 {
		if before == 0 {
			a.pending = append(a.pending[:0], data...)
		}
		return nil
	}
	head := whole[:end]
	if len(head) < 14 || decimal(head[9:12]) < 100 {
		a.problem = "not an HTTP answer"
		return nil
	}
	a.status = decimal(head[9:12])
	a.closes = equalFoldAll(field(head, "connection"), "close")
	a.left = contentLength(head)
	switch {
	case a.left > 0:
		a.state = inBody
	case a.left < 0:
		a.state = inChunkSize
	case field(head, "content-length") == nil:
		a.problem = "an answer without framing"
	default:
		a.state = done
	}
	a.pending = a.pending[:0]
	return data[end-before:]
}

func equalFoldAll(text []byte, lower string) bool {
	return len(text) == len(lower) && equalFold(text, lower)
}

func (a *Answer) line(data []byte) []byte {
	end := bytes.IndexByte(data, '\n') + 1
	if end == 0 {
		a.pending = append(a.pending, data...)
		return nil
	}
	text := data[:end]
	if len(a.pending) > 0 {
		a.pending = append(a.pending, text...)
		text = a.pending
	}
	text = bytes.TrimRight(text, "\r\n")
	switch a.state {
	case inChunkEnd:
		if len(text) > 0 {
			a.problem = "a chunk is longer than it says"
		}
		a.state = inChunkSize
	case inChunkSize:
		a.left = hexadecimal(text)
		a.state = inChunk
		if a.left == 0 {
			a.state = inTrailer
		} else if a.left < 0 || len(text) == 0 {
			a.problem = "a chunk's size is not a number"
		}
	case inTrailer:
		if len(text) == 0 {
			a.state = done
		}
	}
	a.pending = a.pending[:0]
	return data[end:]
}

func (a *Answer) reset() { *a = Answer{pending: a.pending[:0]} }
