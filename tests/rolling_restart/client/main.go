// The program client calls the methods of the user service through round_robin until its input ends:
//
//	client ADDRESS,ADDRESS
//
// Five times a second, and at the end, it prints the number of answered calls as a line of JSON. A failed call is a
// line on stderr. grpc-go retries only calls that a server has refused unread.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

const service = "ru.tinkoff.kora.example.UserService"

// limit is longer than any call takes.
const limit = 30 * time.Second

// report has the numbers of answered calls.
type report struct {
	Calls    int            `json:"calls"`
	Failures int            `json:"failures"`
	ByKind   map[string]int `json:"by_kind"`
	// ByServer has for each server the calls of the client with the fewest answers from it.
	ByServer map[string]int `json:"by_server"`
}

// tally counts for all callers. The servers' calls are counted for each client.
type tally struct {
	sync.Mutex
	calls, failures int
	byKind          map[string]int
	byServer        map[string]map[string]int
}

func (t *tally) count(client, kind, server string, err error) {
	t.Lock()
	defer t.Unlock()
	t.calls++
	t.byKind[kind]++
	if err != nil {
		t.failures++
		fmt.Fprintf(os.Stderr, "%s, %s at %q: %v\n", client, kind, server, err)
		return
	}
	t.byServer[server][client]++
}

func (t *tally) print() {
	t.Lock()
	defer t.Unlock()
	byServer := map[string]int{}
	for server, byClient := range t.byServer {
		byServer[server] = byClient["health"]
		if plain := byClient["plain"]; plain < byServer[server] {
			byServer[server] = plain
		}
	}
	line, _ := json.Marshal(report{t.calls, t.failures, t.byKind, byServer})
	fmt.Println(string(line))
}

func main() {
	addresses := strings.Split(os.Args[1], ",")
	t := &tally{byKind: map[string]int{}, byServer: map[string]map[string]int{}}
	for _, address := range addresses {
		t.byServer[address] = map[string]int{}
	}
	stop, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	// One client learns of a shutdown from the servers' health, the other from GOAWAY alone.
	for name, config := range map[string]string{
		"health": fmt.Sprintf(`, "healthCheckConfig": {"serviceName": %q}`, service),
		"plain":  "",
	} {
		conn := connect(addresses, config)
		for kind, callers := range map[string]int{"unary": 16, "batch": 8, "slow_batch": 8, "users": 1} {
			for range callers {
				running.Go(func() {
					for stop.Err() == nil {
						server, err := kinds[kind](conn)
						t.count(name, kind, server, err)
					}
				})
			}
		}
	}
	go func() {
		for range time.Tick(200 * time.Millisecond) {
			t.print()
		}
	}()
	_, _ = io.ReadAll(os.Stdin)
	cancel()
	running.Wait()
	t.print()
}

func connect(addresses []string, config string) *grpc.ClientConn {
	servers := manual.NewBuilderWithScheme("rolling")
	var state resolver.State
	for _, address := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: "localhost"})
	}
	servers.InitialState(state)
	conn, err := grpc.NewClient("rolling:///",
		grpc.WithResolvers(servers),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]`+config+`}`))
	if err != nil {
		panic(err)
	}
	return conn
}

// kinds are the calls by their names; each gives the server that was called.
var kinds = map[string]func(*grpc.ClientConn) (string, error){
	"unary":      unary,
	"batch":      func(conn *grpc.ClientConn) (string, error) { return batch(conn, 0) },
	"slow_batch": func(conn *grpc.ClientConn) (string, error) { return batch(conn, 5*time.Millisecond) },
	"users":      users,
}

// unary asks for a user that no server has.
func unary(conn *grpc.ClientConn) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var server peer.Peer
	err := conn.Invoke(ctx, "/"+service+"/GetUser", text(1, "nobody"), &message{}, grpc.Peer(&server))
	if status.Code(err) == codes.NotFound {
		err = nil
	} else if err == nil {
		err = fmt.Errorf("there is somebody")
	}
	return name(&server), err
}

// batch sends requests that create no users, so that no server fills up: each is invalid, and the call succeeds.
// With a pause between them it is often under way when its server begins to shut down.
func batch(conn *grpc.ClientConn, pause time.Duration) (string, error) {
	const messages = 20
	return stream(conn, "CreateUsers", func(s grpc.ClientStream) error {
		for range messages {
			// A failure is that of the call, which RecvMsg returns.
			if s.SendMsg(text(1, " ")) != nil {
				break
			}
			time.Sleep(pause)
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		return s.RecvMsg(&message{})
	})
}

// users creates a user on any server, and reads all users of one server.
func users(conn *grpc.ClientConn) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	alice := append(*text(1, "Alice"), *text(2, "alice@example.com")...)
	if err := conn.Invoke(ctx, "/"+service+"/CreateUser", (*message)(&alice), &message{}); err != nil {
		return "", err
	}
	return stream(conn, "GetAllUsers", func(s grpc.ClientStream) error {
		if err := s.SendMsg(&message{}); err != nil {
			return err
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		for {
			if err := s.RecvMsg(&message{}); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}

func stream(conn *grpc.ClientConn, method string, talk func(grpc.ClientStream) error) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var server peer.Peer
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+service+"/"+method,
		grpc.Peer(&server))
	if err == nil {
		err = talk(s)
	}
	// The peer of a stream is known only after its end.
	for err == nil && server.Addr == nil {
		err = s.RecvMsg(&message{})
	}
	if err == io.EOF {
		err = nil
	}
	return name(&server), err
}

func name(server *peer.Peer) string {
	if server.Addr == nil {
		return ""
	}
	return server.Addr.String()
}

// message is an encoded protobuf message: this program needs only a text or two of each.
type message []byte

// text is a message with this text as its only field.
func text(field byte, value string) *message {
	m := message{field<<3 | 2, byte(len(value))}
	m = append(m, value...)
	return &m
}

// raw is the codec of messages.
type raw struct{}

func (raw) Marshal(m any) ([]byte, error) { return *m.(*message), nil }

func (raw) Unmarshal(data []byte, m any) error {
	*m.(*message) = append(message(nil), data...)
	return nil
}

func (raw) Name() string { return "proto" }
