package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// raw passes messages as bytes.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(value any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(value.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, value any) error {
	*value.(*[]byte) = data.Materialize()
	return nil
}

// bystanders are other calls on the connection: a Watch that stays open, and checks.
type bystanders struct {
	health grpc_health_v1.HealthClient
	watch  grpc.ServerStreamingClient[grpc_health_v1.HealthCheckResponse]
	checks atomic.Int64
}

// attack makes the calls, all on one connection over the link.
func attack(link *link, kind kind, count int) error {
	connection := must1(grpc.NewClient(link.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer connection.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	others := &bystanders{health: grpc_health_v1.NewHealthClient(connection)}
	if err := others.begin(ctx); err != nil {
		return err
	}
	if err := spend(ctx, connection, kind); err != nil {
		return err
	}
	errs := make(chan error, 3)
	fail := func(err error) {
		select {
		case errs <- err:
		default:
		}
		stop()
	}
	go others.check(ctx, fail)
	go others.watching(ctx, fail)

	var callers sync.WaitGroup
	var begun atomic.Int64
	for range atATime {
		callers.Go(func() {
			for ctx.Err() == nil && begun.Add(1) <= int64(count) {
				if err := early(ctx, connection, kind); err != nil {
					fail(err)
				}
			}
		})
	}
	callers.Wait()
	select {
	case err := <-errs:
		return fmt.Errorf("after %d calls: %w", begun.Load(), err)
	default:
	}
	if connections := link.connections.Load(); connections != 1 {
		return fmt.Errorf("there were %d connections", connections)
	}
	if others.checks.Load() == 0 {
		return errors.New("no check was made beside the calls")
	}
	return nil
}

// spend makes a call that ends in order, which may be the only one that the server allows.
func spend(ctx context.Context, connection *grpc.ClientConn, kind kind) error {
	description := &grpc.StreamDesc{ClientStreams: true}
	stream, err := connection.NewStream(ctx, description, service+kind.method, grpc.ForceCodecV2(raw{}))
	if err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	var answer []byte
	// Its result does not matter: only later calls are checked.
	_ = stream.RecvMsg(&answer)
	return nil
}

// early sends until its call is over, which has to be for the reason.
func early(ctx context.Context, connection *grpc.ClientConn, kind kind) error {
	// So that a missing answer does not block for ever.
	timeout := 30 * time.Second
	if kind.timeout > 0 {
		timeout = kind.timeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	description := &grpc.StreamDesc{ClientStreams: true}
	// The codec's bytes are a user without a name, which the server counts and skips.
	message := make([]byte, 1024)
	message[0], message[1], message[2] = 0x12, 0xfd, 0x07
	stream, err := connection.NewStream(limited, description, service+kind.method, grpc.ForceCodecV2(raw{}))
	for err == nil {
		if err = stream.SendMsg(message); err == nil {
			time.Sleep(5 * time.Millisecond)
		}
	}
	if errors.Is(err, io.EOF) {
		var answer []byte
		err = stream.RecvMsg(&answer)
	}
	if code := status.Code(err); code != kind.code && ctx.Err() == nil {
		return fmt.Errorf("a call ended with %s rather than %s: %w", code, kind.code, err)
	}
	return nil
}

func (b *bystanders) begin(ctx context.Context) error {
	watch, err := b.health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	b.watch = watch
	_, err = watch.Recv()
	return err
}

// watching fails when the Watch ends.
func (b *bystanders) watching(ctx context.Context, fail func(error)) {
	if _, err := b.watch.Recv(); ctx.Err() == nil {
		fail(fmt.Errorf("the Watch on the same connection got more than its first answer: %w", err))
	}
}

// check makes one call after the other, with a pause between them.
func (b *bystanders) check(ctx context.Context, fail func(error)) {
	for ctx.Err() == nil {
		if _, err := b.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
			if ctx.Err() == nil {
				fail(fmt.Errorf("a check on the same connection failed: %w", err))
			}
			return
		}
		b.checks.Add(1)
		time.Sleep(10 * time.Millisecond)
	}
}
