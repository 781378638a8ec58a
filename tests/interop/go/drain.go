package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

const (
	callers = 8

	// enough calls of a kind show that a server takes part.
	enough = 20
)

// callWhileDraining calls two servers by turns. It prints `calling` once both have answered, and goes on until its
// input ends, which is the sign that the first server has ended; then for a while with the second alone.
func callWhileDraining(addresses []string, pemFiles []string, watchHealth bool) {
	servers := manual.NewBuilderWithScheme("interop")
	var state resolver.State
	singles, batches := counts{}, counts{}
	for _, address := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: "localhost"})
		singles[address], batches[address] = &atomic.Int64{}, &atomic.Int64{}
	}
	servers.InitialState(state)
	config := `{"loadBalancingConfig": [{"round_robin": {}}]}`
	if watchHealth {
		config = fmt.Sprintf(
			`{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": %q}}`, service)
	}
	u := connect("interop:///", pemFiles, grpc.WithResolvers(servers), grpc.WithDefaultServiceConfig(config))
	defer u.Close()

	ctx, stop := context.WithCancel(background)
	failures := make(chan error, 1)
	var running sync.WaitGroup
	start := func(count int, call func(users)) {
		for range count {
			running.Go(func() {
				for ctx.Err() == nil {
					if err := attempt(func() { call(u) }); err != nil {
						// The first failure is enough.
						select {
						case failures <- err:
						default:
						}
						return
					}
				}
			})
		}
	}
	start(callers, func(u users) {
		var server peer.Peer
		must1(u.call(background, "CreateUser", alice, grpc.Peer(&server)))
		singles[server.Addr.String()].Add(1)
	})
	start(callers, func(u users) {
		var server peer.Peer
		slowBatch(u, grpc.Peer(&server))
		batches[server.Addr.String()].Add(1)
	})
	start(1, readAll)

	await := func(answered *atomic.Int64) {
		for wanted := answered.Load() + enough; answered.Load() < wanted && len(failures) == 0; {
			time.Sleep(5 * time.Millisecond)
		}
	}
	for _, address := range addresses {
		await(singles[address])
		await(batches[address])
	}
	fmt.Println("calling")
	_, _ = io.ReadAll(os.Stdin)
	second := addresses[1]
	await(singles[second])
	await(batches[second])
	stop()
	running.Wait()
	select {
	case err := <-failures:
		must(err)
	default:
	}
}

// counts are the numbers of answered calls, by the address of the server.
type counts map[string]*atomic.Int64

// slowBatch is a call that is often under way when its server begins to shut down.
func slowBatch(u users, options ...grpc.CallOption) {
	const messages = 20
	batch := u.stream(background, "CreateUsers", options...)
	for range messages {
		// A failure is that of the call, which receive returns.
		if batch.send(alice) != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	must(batch.CloseSend())
	created := must1(batch.receive())
	check(len(created.texts("user_ids")) == messages, "created: %v", created)
}

func readAll(u users) {
	_, err := u.allUsers(background).rest()
	check(err == io.EOF, "a stream of users ended with %v", err)
	time.Sleep(20 * time.Millisecond)
}
