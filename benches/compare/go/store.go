package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"balafon/compare/pb"
)

// How many users are kept, besides those that were there first.
const kept = 4096

// Users are never changed in place, so readers hold them without a lock.
type store struct {
	lock  sync.RWMutex
	index map[string]int
	users []*pb.UserResponse
	// How many there were first, and how many were created since: each has the place of that before it by `kept`.
	seeded, created int
}

func newStore() *store {
	return &store{index: make(map[string]int)}
}

func (s *store) seed(count int) []string {
	ids := make([]string, count)
	for n := range ids {
		user, err := s.create(fmt.Sprintf("User Number %d", n), fmt.Sprintf("user%d@example.com", n))
		if err != nil {
			panic(err)
		}
		ids[n] = user.Id
	}
	s.seeded, s.created = count, 0
	return ids
}

func (s *store) create(name, email string) (*pb.UserResponse, error) {
	name, email = strings.TrimSpace(name), strings.TrimSpace(email)
	if name == "" {
		return nil, invalid("name is empty")
	}
	if !strings.Contains(email, "@") {
		return nil, invalid("email is not an address")
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	user := &pb.UserResponse{
		Id: uuid.Must(uuid.NewV7()).String(), Name: name, Email: email, CreatedAt: timestamppb.Now(),
	}
	place := s.seeded + s.created%kept
	if s.seeded == 0 || place == len(s.users) {
		place = len(s.users)
		s.users = append(s.users, user)
	} else {
		delete(s.index, s.users[place].Id)
		s.users[place] = user
	}
	s.index[user.Id] = place
	s.created++
	return user, nil
}

func (s *store) get(id string) (*pb.UserResponse, error) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	index, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return s.users[index], nil
}

func (s *store) update(update *pb.UserUpdate) (*pb.UserResponse, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	index, err := s.find(update.UserId)
	if err != nil {
		return nil, err
	}
	old := s.users[index]
	user := &pb.UserResponse{
		Id: old.Id, Name: old.Name, Email: old.Email, CreatedAt: old.CreatedAt, Status: old.Status,
	}
	if update.Name != "" {
		user.Name = update.Name
	}
	if update.Email != "" {
		user.Email = update.Email
	}
	s.users[index] = user
	return user, nil
}

// A copy, for updates replace users in the slice itself.
func (s *store) all() []*pb.UserResponse {
	s.lock.RLock()
	defer s.lock.RUnlock()
	return append([]*pb.UserResponse(nil), s.users...)
}

func (s *store) find(id string) (int, error) {
	if id == "" {
		return 0, invalid("user_id must not be empty")
	}
	index, ok := s.index[id]
	if !ok {
		return 0, status.Errorf(codes.NotFound, "User not found: %s", id)
	}
	return index, nil
}
