package main

import (
	"syscall"
	"time"
	"unsafe"
)

// Handler is told when its socket can be read or written. Edges only: it reads and writes until nothing is left.
type Handler interface{ ready(events uint32) }

// Timer is called once the millisecond for which it was set has come.
type Timer interface{ fire() }

const (
	wheelSlots = 1 << 13
	edge       = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | 1<<31
	epollWait2 = 441 // epoll_pwait2, Linux 5.11: a timeout finer than milliseconds
)

// Loop waits for sockets and for a wheel of timers with slots of one millisecond.
type Loop struct {
	epoll    int
	handlers []Handler
	began    time.Time
	turned   int64 // the last millisecond whose timers have fired
	wheel    [wheelSlots][]Timer
	pending  int
	wake     time.Duration // when to return from waiting at the latest; 0: only timers say
	scratch  [1 << 16]byte
	events   [512]syscall.EpollEvent
}

func newLoop() *Loop {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		fail("epoll_create1: " + err.Error())
	}
	syscall.RawSyscall(syscall.SYS_PRCTL, 29 /* PR_SET_TIMERSLACK */, 1, 0)
	return &Loop{epoll: epoll, began: time.Now()}
}

func (l *Loop) now() time.Duration { return time.Since(l.began) }

func (l *Loop) add(fd int, handler Handler) {
	for fd >= len(l.handlers) {
		l.handlers = append(l.handlers, make([]Handler, 1024)...)
	}
	l.handlers[fd] = handler
	event := syscall.EpollEvent{Events: edge & (1<<32 - 1), Fd: int32(fd)}
	if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		fail("epoll_ctl: " + err.Error())
	}
}

func (l *Loop) close(fd int) {
	l.handlers[fd] = nil
	syscall.Close(fd)
}

// at sets a timer for a millisecond since the loop's beginning, less than 8 s ahead.
func (l *Loop) at(millisecond int64, timer Timer) {
	if millisecond <= l.turned {
		millisecond = l.turned + 1
	}
	slot := &l.wheel[millisecond%wheelSlots]
	*slot = append(*slot, timer)
	l.pending++
}

// turn handles what is there, waiting for it if need be.
func (l *Loop) turn() {
	timeout := time.Hour
	now := l.now()
	if l.pending > 0 {
		timeout = time.Duration(l.turned+1)*time.Millisecond - now
	}
	if l.wake > 0 && l.wake-now < timeout {
		timeout = l.wake - now
	}
	if timeout < 0 {
		timeout = 0
	}
	wait := syscall.NsecToTimespec(int64(timeout))
	found, _, problem := syscall.Syscall6(epollWait2, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])),
		uintptr(len(l.events)), uintptr(unsafe.Pointer(&wait)), 0, 0)
	if problem != 0 {
		if problem == syscall.EINTR {
			return
		}
		fail("epoll_pwait2 (Linux 5.11 or newer): " + problem.Error())
	}
	for index := range l.events[:found] {
		event := &l.events[index]
		if handler := l.handlers[event.Fd]; handler != nil {
			handler.ready(event.Events)
		}
	}
	l.fire()
}

func (l *Loop) fire() {
	for until := int64(l.now() / time.Millisecond); l.turned < until; {
		l.turned++
		slot := &l.wheel[l.turned%wheelSlots]
		due := *slot
		if len(due) == 0 {
			continue
		}
		*slot = nil
		l.pending -= len(due)
		for _, timer := range due {
			timer.fire()
		}
	}
}

// read gives what has come, valid until the next call; gone says that nothing more will.
func (l *Loop) read(fd int) (data []byte, gone bool) {
	size, _, problem := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&l.scratch[0])), uintptr(len(l.scratch)))
	if problem != 0 {
		return nil, problem != syscall.EAGAIN && problem != syscall.EINTR
	}
	return l.scratch[:size], size == 0
}

// write gives how much was taken; gone says that the other side is.
func write(fd int, data []byte) (size int, gone bool) {
	if len(data) == 0 {
		return 0, false
	}
	taken, _, problem := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)),
		syscall.MSG_NOSIGNAL, 0, 0)
	if problem != 0 {
		return 0, problem != syscall.EAGAIN && problem != syscall.EINTR
	}
	return int(taken), false
}

func noDelay(fd int) {
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
}
