package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const service = "ru.tinkoff.kora.example.UserService"

// methods are the methods of the service, read from the descriptor set that $DESCRIPTORS names.
var methods = func() protoreflect.MethodDescriptors {
	set := &descriptorpb.FileDescriptorSet{}
	must(proto.Unmarshal(must1(os.ReadFile(os.Getenv("DESCRIPTORS"))), set))
	files := must1(protodesc.NewFiles(set))
	return must1(files.FindDescriptorByName(service)).(protoreflect.ServiceDescriptor).Methods()
}()

// fields are the fields of a message, by their names in JSON.
type fields map[string]any

var (
	alice  = fields{"name": "Alice", "email": "alice@example.com"}
	nobody = fields{"name": " ", "email": "nobody"}
)

// message is a message of the service.
type message struct{ *dynamicpb.Message }

func (m message) value(field protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(field))
}

func (m message) text(field protoreflect.Name) string {
	return m.value(field).String()
}

func (m message) texts(field protoreflect.Name) []string {
	list := m.value(field).List()
	texts := make([]string, list.Len())
	for i := range texts {
		texts[i] = list.Get(i).String()
	}
	return texts
}

// users is the service on one connection.
type users struct{ *grpc.ClientConn }

// connect dials target; pemFiles are the authority to trust and the client's certificate and key, or fewer of them.
func connect(target string, pemFiles []string, options ...grpc.DialOption) users {
	transport := insecure.NewCredentials()
	if len(pemFiles) > 0 {
		config := &tls.Config{RootCAs: x509.NewCertPool()}
		config.RootCAs.AppendCertsFromPEM(must1(os.ReadFile(pemFiles[0])))
		if len(pemFiles) > 1 {
			config.Certificates = []tls.Certificate{must1(tls.LoadX509KeyPair(pemFiles[1], pemFiles[2]))}
		}
		transport = credentials.NewTLS(config)
	}
	options = append(options, grpc.WithTransportCredentials(transport))
	return users{must1(grpc.NewClient(target, options...))}
}

// call does a unary call.
func (u users) call(ctx context.Context, name string, request fields, options ...grpc.CallOption) (message, error) {
	method := methods.ByName(protoreflect.Name(name))
	response := message{dynamicpb.NewMessage(method.Output())}
	err := u.Invoke(ctx, "/"+service+"/"+name, encode(method, request), response.Message, options...)
	return response, err
}

// stream begins a call of another kind.
func (u users) stream(ctx context.Context, name string, options ...grpc.CallOption) stream {
	method := methods.ByName(protoreflect.Name(name))
	description := &grpc.StreamDesc{ClientStreams: method.IsStreamingClient(), ServerStreams: method.IsStreamingServer()}
	return stream{must1(u.NewStream(ctx, description, "/"+service+"/"+name, options...)), method}
}

// allUsers begins GetAllUsers.
func (u users) allUsers(ctx context.Context, options ...grpc.CallOption) stream {
	all := u.stream(ctx, "GetAllUsers", options...)
	must(all.send(fields{}))
	must(all.CloseSend())
	return all
}

// createUsers creates a user for each request.
func (u users) createUsers(ctx context.Context, requests []fields, options ...grpc.CallOption) (message, error) {
	batch := u.stream(ctx, "CreateUsers", options...)
	for _, request := range requests {
		// A failure is that of the call, which receive returns.
		if batch.send(request) != nil {
			break
		}
	}
	must(batch.CloseSend())
	return batch.receive()
}

// stream is a call with a stream of requests, of answers, or of both.
type stream struct {
	grpc.ClientStream
	method protoreflect.MethodDescriptor
}

func (s stream) send(request fields) error {
	return s.SendMsg(encode(s.method, request))
}

func (s stream) receive() (message, error) {
	response := message{dynamicpb.NewMessage(s.method.Output())}
	err := s.RecvMsg(response.Message)
	return response, err
}

// ask sends one request and waits for its answer.
func (s stream) ask(request fields) (message, error) {
	if err := s.send(request); err != nil {
		return message{}, err
	}
	return s.receive()
}

// rest returns all further answers, and the error at their end: io.EOF unless the call failed.
func (s stream) rest() ([]message, error) {
	var answers []message
	for {
		answer, err := s.receive()
		if err != nil {
			return answers, err
		}
		answers = append(answers, answer)
	}
}

func encode(method protoreflect.MethodDescriptor, request fields) *dynamicpb.Message {
	encoded := dynamicpb.NewMessage(method.Input())
	must(protojson.Unmarshal(must1(json.Marshal(request)), encoded))
	return encoded
}
