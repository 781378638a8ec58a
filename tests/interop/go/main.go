// The program interop is grpc-go as a client of the user service. It prints a line for each case, `ok NAME` or
// `FAIL NAME: WHY`, and exits with 0 once it has been through all of them.
//
//	interop ADDRESS [AUTHORITY [CERTIFICATE KEY]]
//	interop -drain [-health] ADDRESS,ADDRESS [AUTHORITY [CERTIFICATE KEY]]
//
// The files are PEM; with them it speaks TLS. $DESCRIPTORS names a descriptor set of the service.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// limit is longer than any case takes.
const limit = 30 * time.Second

func main() {
	drain := flag.Bool("drain", false, "call two servers while one is shut down")
	health := flag.Bool("health", false, "watch the health of the two")
	flag.Parse()
	address, pemFiles := flag.Arg(0), flag.Args()[1:]
	if *drain {
		run("no_call_fails_while_one_of_two_servers_shuts_down", func() {
			callWhileDraining(strings.Split(address, ","), pemFiles, *health)
		})
		return
	}
	runCases(address, pemFiles)
}

// failure is what must and check panic with.
type failure struct{ error }

func check(holds bool, format string, values ...any) {
	if !holds {
		panic(failure{fmt.Errorf(format, values...)})
	}
}

func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func must1[T any](value T, err error) T {
	must(err)
	return value
}

// run prints how a case ends.
func run(name string, test func()) {
	end := make(chan error, 1)
	go func() {
		end <- attempt(test)
	}()
	var err error
	select {
	case err = <-end:
	case <-time.After(limit):
		err = fmt.Errorf("took more than %s", limit)
	}
	if err == nil {
		fmt.Println("ok", name)
	} else {
		fmt.Printf("FAIL %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", " | "))
	}
	os.Stdout.Sync()
}

// attempt is the failure in test, if there is one.
func attempt(test func()) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			failed, expected := panicked.(failure)
			if !expected {
				panic(panicked)
			}
			err = failed.error
		}
	}()
	test()
	return nil
}
