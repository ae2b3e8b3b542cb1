// Handles events in a program with its own event loop on epoll, together with a timer, until Ctrl-C. Most Go
// programs would rather start a goroutine with VM.Run, as "several" does.
//
// usage: loop PACKAGE
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	eunomia "github.com/eunomia-bpf/libeunomia/bindings/go"
)

func main() {
	vm, err := eunomia.New(nil)
	check(err)
	defer vm.Close()
	_, err = vm.OpenFile(os.Args[1], eunomia.KindJSON)
	check(err)
	check(vm.Attach())

	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() {
		<-interrupted
		vm.Stop() // the descriptor is readable then
	}()

	loop, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	check(err)
	watched := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(vm.Fd())}
	check(syscall.EpollCtl(loop, syscall.EPOLL_CTL_ADD, vm.Fd(), &watched))
	ready := make([]syscall.EpollEvent, 1)
	next := time.Now().Add(time.Second)
	for {
		left := time.Until(next)
		if left <= 0 {
			fmt.Println("tick")
			next = next.Add(time.Second)
			continue
		}
		count, err := syscall.EpollWait(loop, ready, int(left.Milliseconds())+1)
		if err == syscall.EINTR || count == 0 {
			continue
		}
		check(err)
		_, err = vm.Poll(context.Background(), 0, eunomia.FormatJSON, show)
		if errors.Is(err, eunomia.ErrStopped) {
			return
		}
		check(err)
	}
}

func show(event *eunomia.Event) error {
	_, err := fmt.Println(string(event.Data))
	return err
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
