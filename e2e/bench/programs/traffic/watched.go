package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// Watched are the processes whose CPU time and memory a measurement reads, at the moments at which it begins and ends.
type Watched []int

func parseWatched(text string) Watched {
	var watched Watched
	for _, part := range strings.Split(text, ",") {
		if pid, err := strconv.Atoi(part); err == nil {
			watched = append(watched, pid)
		} else if part != "" {
			fail(fmt.Sprintf("--pids: %q is not a number", part))
		}
	}
	return watched
}

// cpu is user and system time of all threads, ended ones too, in seconds: the sum of what /proc/PID/stat has as utime and
// stime, without its rounding to hundredths.
func (w Watched) cpu() float64 {
	total := 0.0
	for _, pid := range w {
		var time syscall.Timespec
		clock := uintptr(^pid<<3 | 2) // clock_getcpuclockid(3)
		if _, _, problem := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&time)), 0); problem != 0 {
			fail(fmt.Sprintf("process %d has ended in the middle of the measurement", pid))
		}
		total += float64(time.Sec) + float64(time.Nsec)/1e9
	}
	return total
}

// resident is their memory in MB (2^20 bytes).
func (w Watched) resident() float64 {
	total := 0
	for _, pid := range w {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			fail(fmt.Sprintf("process %d has ended in the middle of the measurement", pid))
		}
		_, rest, _ := bytes.Cut(text, []byte("VmRSS:"))
		if fields := bytes.Fields(rest); len(fields) > 0 {
			total += decimal(fields[0])
		}
	}
	return float64(total) / 1024
}
