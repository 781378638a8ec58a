// The user service on grpc-go, with a store of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"balafon/compare/pb"
)

type users struct {
	pb.UnimplementedUserServiceServer
	store *store
}

func (u *users) CreateUser(_ context.Context, request *pb.CreateUserRequest) (*pb.UserResponse, error) {
	return u.store.create(request.Name, request.Email)
}

func (u *users) GetUser(_ context.Context, request *pb.GetUserRequest) (*pb.UserResponse, error) {
	return u.store.get(request.UserId)
}

func (u *users) GetAllUsers(_ *emptypb.Empty, stream grpc.ServerStreamingServer[pb.UserResponse]) error {
	all := u.store.all()
	if err := stream.SetHeader(metadata.Pairs("users-total", strconv.Itoa(len(all)))); err != nil {
		return err
	}
	for _, user := range all {
		if err := stream.Send(user); err != nil {
			return err
		}
	}
	return nil
}

func (u *users) CreateUsers(stream grpc.ClientStreamingServer[pb.CreateUserRequest, pb.CreateUsersResponse]) error {
	response := &pb.CreateUsersResponse{}
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(response)
		}
		if err != nil {
			return err
		}
		if user, err := u.store.create(request.Name, request.Email); err == nil {
			response.CreatedCount++
			response.UserIds = append(response.UserIds, user.Id)
		}
	}
}

func (u *users) UpdateUsers(stream grpc.BidiStreamingServer[pb.UserUpdate, pb.UserResponse]) error {
	for {
		update, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		user, err := u.store.update(update)
		if err != nil {
			return err
		}
		if err := stream.Send(user); err != nil {
			return err
		}
	}
}

type echo struct {
	pb.UnimplementedEchoServer
}

func (echo) Echo(_ context.Context, request *pb.Payload) (*pb.Payload, error) {
	return request, nil
}

func main() {
	// As all servers here are called: PORT [--tls CERT KEY] [--tuned].
	var options []grpc.ServerOption
	for words := os.Args[2:]; len(words) > 0; words = words[1:] {
		switch words[0] {
		case "--tls":
			identity, err := credentials.NewServerTLSFromFile(words[1], words[2])
			if err != nil {
				log.Fatal(err)
			}
			options = append(options, grpc.Creds(identity))
			words = words[2:]
		case "--tuned":
			debug.SetGCPercent(400)
			options = append(options, grpc.NumStreamWorkers(4), grpc.SharedWriteBuffer(true),
				grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(4<<20))
		default:
			log.Fatalf("what is %s?", words[0])
		}
	}
	store := newStore()
	fmt.Println(strings.Join(store.seed(1000), " "))
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(options...)
	pb.RegisterUserServiceServer(server, &users{store: store})
	pb.RegisterEchoServer(server, echo{})
	log.Fatal(server.Serve(listener))
}

func invalid(format string, arguments ...any) error {
	return status.Errorf(codes.InvalidArgument, format, arguments...)
}
