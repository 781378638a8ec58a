package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

// server is user-server as a process.
type server struct {
	command *exec.Cmd
	address string
}

func start(program string, arguments []string) *server {
	arguments = append([]string{"--listen", "127.0.0.1:0", "--store", "memory:", "--log-format", "json"}, arguments...)
	command := exec.Command(program, arguments...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "USER_SERVER_") || strings.HasPrefix(variable, "USER_SERVER_HTTP2=") {
			command.Env = append(command.Env, variable)
		}
	}
	log := bufio.NewReaderSize(must1(command.StderrPipe()), 1<<18)
	must(command.Start())
	server := &server{command: command}
	for server.address == "" {
		line := must1(log.ReadString('\n'))
		if strings.Contains(line, "listening") {
			_, rest, _ := strings.Cut(line, `"address":"`)
			server.address, _, _ = strings.Cut(rest, `"`)
		}
	}
	go io.Copy(io.Discard, log)
	return server
}

func (s *server) stop() {
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
}

// link is a proxy to the server that adds a delay.
type link struct {
	net.Listener
	to          string
	connections atomic.Int64
}

func newLink(to string) *link {
	link := &link{Listener: must1(net.Listen("tcp", "127.0.0.1:0")), to: to}
	go func() {
		for {
			client, err := link.Accept()
			if err != nil {
				return
			}
			link.connections.Add(1)
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			go carry(client, server)
			go carry(server, client)
		}
	}()
	return link
}

func (l *link) close() {
	_ = l.Listener.Close()
}

// carry copies the bytes and the end of the stream after the delay.
func carry(from, to net.Conn) {
	type piece struct {
		bytes []byte
		due   time.Time
	}
	pieces := make(chan piece, 4096)
	go func() {
		defer close(pieces)
		for {
			bytes := make([]byte, 32*1024)
			count, err := from.Read(bytes)
			if err != nil {
				return
			}
			pieces <- piece{bytes[:count], time.Now().Add(delay)}
		}
	}()
	for piece := range pieces {
		time.Sleep(time.Until(piece.due))
		if _, err := to.Write(piece.bytes); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	for range pieces {
	}
}
