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
	unaryCallers = 8
	batchCallers = 4

	// enough calls on a server show that it takes part.
	enough = 200
)

// callWhileDraining calls two servers by turns. It prints `calling` once both have answered, and goes on until its
// input ends, which is the sign that the first server has ended; then for a while with the second alone.
func callWhileDraining(addresses []string, pemFiles []string, watchHealth bool) {
	servers := manual.NewBuilderWithScheme("interop")
	var state resolver.State
	answered := map[string]*atomic.Int64{}
	for _, address := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: "localhost"})
		answered[address] = &atomic.Int64{}
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
	var callers sync.WaitGroup
	start := func(count int, call func(users)) {
		for range count {
			callers.Go(func() {
				for ctx.Err() == nil {
					if err := attempt(func() { call(u) }); err != nil {
						// The first says it all.
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
	start(unaryCallers, func(u users) {
		var server peer.Peer
		must1(u.call(background, "CreateUser", alice, grpc.Peer(&server)))
		answered[server.Addr.String()].Add(1)
	})
	start(batchCallers, slowBatch)
	start(1, readAll)

	wait := func(address string, count int64) {
		for answered[address].Load() < count && len(failures) == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	for _, address := range addresses {
		wait(address, enough)
	}
	fmt.Println("calling")
	_, _ = io.ReadAll(os.Stdin)
	second := addresses[1]
	wait(second, answered[second].Load()+enough)
	stop()
	callers.Wait()
	select {
	case err := <-failures:
		must(err)
	default:
	}
}

// slowBatch is a call that is often under way when its server begins to shut down.
func slowBatch(u users) {
	const messages = 20
	batch := u.stream(background, "CreateUsers")
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
