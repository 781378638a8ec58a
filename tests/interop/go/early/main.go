// The program early makes calls that are answered while they still send, thousands on one connection over a link with a
// delay, and sees that no other call on that connection fails. See tests/hostile/early-answers.
//
//	early [-count N] SERVER
//
// SERVER is the program user-server.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	service = "/ru.tinkoff.kora.example.UserService/"

	// delay is the delay of the link, each way.
	delay = 25 * time.Millisecond

	// atATime calls are open.
	atATime = 200
)

// kind is a reason to answer early.
type kind struct {
	code    codes.Code
	method  string
	timeout time.Duration
	server  []string
}

func main() {
	count := flag.Int("count", 12_000, "calls of each kind")
	flag.Parse()
	secret := must1(os.CreateTemp("", "early"))
	defer os.Remove(secret.Name())
	must1(secret.WriteString("of no use to anybody but this test, and long enough"))
	kinds := []kind{
		{code: codes.Unimplemented, method: "NoMethod"},
		{code: codes.DeadlineExceeded, method: "CreateUsers", timeout: 40 * time.Millisecond},
		{code: codes.ResourceExhausted, method: "CreateUsers", server: []string{"--rate-limit", "*/CreateUsers=1/1d"}},
		{code: codes.Unauthenticated, method: "CreateUsers",
			server: []string{"--auth-secret", secret.Name(), "--auth-allow", "any=*"}},
	}
	failed := false
	for _, kind := range kinds {
		begin := time.Now()
		err := run(flag.Arg(0), kind, *count)
		took := time.Since(begin).Round(100 * time.Millisecond)
		if err != nil {
			fmt.Printf("FAIL %s: %v (%s)\n", kind.code, err, took)
			failed = true
			continue
		}
		fmt.Printf("ok   %s: %d calls in %s\n", kind.code, *count, took)
	}
	if failed {
		os.Exit(1)
	}
}

func run(program string, kind kind, count int) error {
	server := start(program, kind.server)
	defer server.stop()
	link := newLink(server.address)
	defer link.close()
	return attack(link, kind, count)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](value T, err error) T {
	must(err)
	return value
}
