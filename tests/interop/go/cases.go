package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// fourMiB is the size limit of a message that clients and servers share by default.
const fourMiB = 4 * 1024 * 1024

type testCase struct {
	name string
	test func(users)
}

// fiveMethods are done once more with compression.
var fiveMethods = []testCase{
	{"create_user_and_get_user", createUserAndGetUser},
	{"get_all_users_streams_them_in_order_and_tells_the_total_first", getAllUsers},
	{"create_users_reports_failures_in_its_trailers", createUsers},
	{"create_users_without_messages_or_failures", createUsersWithoutFailures},
	{"update_users_answers_each_update_before_the_next", updateUsers},
	{"an_error_has_its_code_and_message", errorMessage},
	{"an_error_has_its_details", errorDetails},
	{"an_error_in_mid_stream_comes_after_the_answers", errorInMidStream},
}

var everythingElse = []testCase{
	{"an_unknown_method_is_unimplemented", unknownMethod},
	{"a_deadline_ends_a_batch_that_is_never_half_closed", deadline},
	{"the_server_keeps_a_deadline_that_its_client_does_not_watch", deadlineOfTheServer},
	{"a_cancelled_conversation_ends", cancellation},
	{"cancelling_many_streams_does_no_harm_to_another_call", manyCancellations},
	{"a_message_of_4_mib_is_read_and_a_longer_one_refused", largeMessages},
	{"a_message_that_inflates_beyond_4_mib_is_refused", largeCompressedMessage},
	{"a_slow_reader_gets_the_whole_stream_and_delays_no_other_call", slowReader},
	{"a_thousand_calls_at_once_are_all_answered", manyCalls},
}

func runCases(address string, pemFiles []string) {
	plain := connect(address, pemFiles)
	seen := &encodings{}
	compressing := connect(address, pemFiles,
		grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)), grpc.WithStatsHandler(seen))

	// Its time is mostly spent waiting.
	var keepalive sync.WaitGroup
	keepalive.Go(func() {
		run("an_idle_conversation_outlives_a_keepalive_ping", func() { idleConversation(address, pemFiles) })
	})
	for _, it := range fiveMethods {
		run(it.name, func() { it.test(plain) })
		run(it.name+"_with_gzip", func() { it.test(compressing) })
	}
	run("answers_to_compressed_requests_are_compressed", func() {
		check(seen.gzip.Load() > 0, "no response said grpc-encoding: gzip")
		check(seen.smaller.Load() > 0, "no message was compressed")
	})
	for _, it := range everythingElse {
		run(it.name, func() { it.test(plain) })
	}
	keepalive.Wait()
}

var background = context.Background()

func createUserAndGetUser(u users) {
	var header metadata.MD
	ctx := metadata.AppendToOutgoingContext(background, "x-request-id", "of-go")
	request := fields{"name": " Анна 用户 👩‍👩‍👧 ", "email": "anna@example.com"}
	user := must1(u.call(ctx, "CreateUser", request, grpc.Header(&header)))
	check(user.text("name") == "Анна 用户 👩‍👩‍👧", "the name is %q", user.text("name"))
	check(slices.Equal(header["x-request-id"], []string{"of-go"}), "x-request-id is %q", header["x-request-id"])
	got := must1(u.call(background, "GetUser", fields{"userId": user.text("id")}))
	check(proto.Equal(got, user), "%v is not %v", got, user)
}

func getAllUsers(u users) {
	created := must1(u.createUsers(background, slices.Repeat([]fields{alice}, 5_000))).texts("user_ids")
	all := u.allUsers(background)
	total := must1(strconv.Atoi(must1(all.Header()).Get("users-total")[0]))
	ids := idsOf(all)
	// Other cases may be creating users.
	check(len(ids) >= total && total >= len(created), "%d users, users-total is %d", len(ids), total)
	check(slices.IsSorted(ids) && isSubset(created, ids), "users are missing or out of order")

	ctx := metadata.AppendToOutgoingContext(background, "users-resume-after", created[4_000])
	ids = idsOf(u.allUsers(ctx))
	check(slices.Equal(ids[:len(created)-4_001], created[4_001:]), "the stream did not resume")
}

func idsOf(all stream) []string {
	answers, err := all.rest()
	check(err == io.EOF, "the stream ended with %v", err)
	ids := make([]string, len(answers))
	for i, answer := range answers {
		ids[i] = answer.text("id")
	}
	return ids
}

func isSubset(some, all []string) bool {
	known := map[string]bool{}
	for _, one := range all {
		known[one] = true
	}
	return !slices.ContainsFunc(some, func(one string) bool { return !known[one] })
}

func createUsers(u users) {
	var trailer metadata.MD
	requests := []fields{alice, nobody, alice, {"name": "Bob", "email": "bob"}}
	created := must1(u.createUsers(background, requests, grpc.Trailer(&trailer)))
	check(len(created.texts("user_ids")) == 2 && created.value("created_count").Int() == 2, "created: %v", created)
	check(trailer.Get("users-failed")[0] == "2", "users-failed is %q", trailer.Get("users-failed"))
	failures := &errdetails.BadRequest{}
	must(proto.Unmarshal([]byte(trailer.Get("users-failures-bin")[0]), failures))
	checkFields(failures, "messages[1].name", "messages[1].email", "messages[3].email")
}

func createUsersWithoutFailures(u users) {
	for _, requests := range [][]fields{{}, {alice}} {
		var trailer metadata.MD
		created := must1(u.createUsers(background, requests, grpc.Trailer(&trailer)))
		check(len(created.texts("user_ids")) == len(requests), "created: %v", created)
		check(trailer.Get("users-failed")[0] == "0", "users-failed is %q", trailer.Get("users-failed"))
		check(len(trailer.Get("users-failures-bin")) == 0, "there are failures")
	}
}

func updateUsers(u users) {
	user := must1(u.call(background, "CreateUser", alice))
	updates := u.stream(background, "UpdateUsers")
	for n := range 200 {
		name := fmt.Sprintf("Alice %d", n)
		answer := must1(updates.ask(fields{"userId": user.text("id"), "name": name}))
		check(answer.text("name") == name && answer.text("id") == user.text("id"), "the answer is %v", answer)
	}
	must(updates.CloseSend())
	answers, err := updates.rest()
	check(len(answers) == 0 && err == io.EOF, "%d more answers, then %v", len(answers), err)
}

// checkStatus is the status of a call that must have failed with this code.
func checkStatus(err error, code codes.Code) *status.Status {
	check(status.Code(err) == code, "wanted %v, but: %v", code, err)
	return status.Convert(err)
}

func checkFields(badRequest *errdetails.BadRequest, wanted ...string) {
	var names []string
	for _, violation := range badRequest.GetFieldViolations() {
		names = append(names, violation.GetField())
	}
	check(slices.Equal(names, wanted), "violations of %q, wanted %q", names, wanted)
}

func checkDetails(err error, wanted ...string) {
	details := checkStatus(err, codes.InvalidArgument).Details()
	check(len(details) == 1, "details: %v", details)
	badRequest, ok := details[0].(*errdetails.BadRequest)
	check(ok, "the detail is %v", details[0])
	checkFields(badRequest, wanted...)
}

func errorMessage(u users) {
	for _, id := range []string{"42", "нет такого 😀", "100 %25\n\ttab"} {
		_, err := u.call(background, "GetUser", fields{"userId": id})
		message := checkStatus(err, codes.NotFound).Message()
		check(message == "User not found: "+id, "the message is %q", message)
	}
}

func errorDetails(u users) {
	_, err := u.call(background, "CreateUser", nobody)
	checkDetails(err, "name", "email")
}

func errorInMidStream(u users) {
	user := must1(u.call(background, "CreateUser", alice))
	updates := u.stream(background, "UpdateUsers")
	must1(updates.ask(fields{"userId": user.text("id"), "name": "First"}))
	_, err := updates.ask(fields{"userId": user.text("id"), "email": "x"})
	checkDetails(err, "email")
}

func unknownMethod(u users) {
	user := must1(u.call(background, "CreateUser", alice))
	checkStatus(u.Invoke(background, "/no.such.Service/Call", user.Message, user.Message), codes.Unimplemented)
}

func deadline(u users) {
	ctx, cancel := context.WithTimeout(background, 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	batch := u.stream(ctx, "CreateUsers")
	must(batch.send(alice))
	_, err := batch.receive()
	checkStatus(err, codes.DeadlineExceeded)
	check(time.Since(start) < 3*time.Second, "it took %s", time.Since(start))
}

func deadlineOfTheServer(u users) {
	user := must1(u.call(background, "CreateUser", alice))
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(background, "x-request-id", "to-run-out-of-time"))
	defer cancel()
	updates := u.stream(toldDeadline{ctx, time.Now().Add(300 * time.Millisecond)}, "UpdateUsers")
	must1(updates.ask(fields{"userId": user.text("id")}))
	_, err := updates.receive()
	checkStatus(err, codes.DeadlineExceeded)
}

// toldDeadline is a context with a deadline that grpc-go sends to the server. The context itself does not enforce
// it.
type toldDeadline struct {
	context.Context
	time time.Time
}

func (d toldDeadline) Deadline() (time.Time, bool) { return d.time, true }

func cancellation(u users) {
	user := must1(u.call(background, "CreateUser", alice))
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(background, "x-request-id", "to-be-cancelled"))
	updates := u.stream(ctx, "UpdateUsers")
	must1(updates.ask(fields{"userId": user.text("id")}))
	cancel()
	_, err := updates.receive()
	checkStatus(err, codes.Canceled)
	must1(u.call(background, "GetUser", fields{"userId": user.text("id")}))
}

func manyCancellations(u users) {
	user := must1(u.call(background, "CreateUser", alice))
	updates := u.stream(background, "UpdateUsers")
	for n := range 300 {
		ctx, cancel := context.WithCancel(background)
		all := u.allUsers(ctx)
		if n%3 > 0 {
			must1(all.Header())
		}
		if n%3 > 1 {
			must1(all.receive())
		}
		cancel()
		// The whole answer may have arrived by then.
		if _, err := all.rest(); err != io.EOF {
			checkStatus(err, codes.Canceled)
		}
		must1(updates.ask(fields{"userId": user.text("id")}))
	}
	must(updates.CloseSend())
}

// sized is a request of this many bytes. The tag and the length of its name take 5.
func sized(bytes int) fields {
	return fields{"name": strings.Repeat("x", bytes-5)}
}

func largeMessages(u users) {
	_, err := u.call(background, "CreateUser", sized(fourMiB))
	checkDetails(err, "name", "email")
	_, err = u.call(background, "CreateUser", sized(fourMiB+1))
	checkStatus(err, codes.ResourceExhausted)
	must1(u.call(background, "CreateUser", alice))
}

func largeCompressedMessage(u users) {
	_, err := u.call(background, "CreateUser", sized(2*fourMiB), grpc.UseCompressor(gzip.Name))
	checkStatus(err, codes.ResourceExhausted)
	must1(u.call(background, "CreateUser", alice, grpc.UseCompressor(gzip.Name)))
}

func slowReader(u users) {
	long := fields{"name": "Long " + strings.Repeat("😀", 170), "email": "long@example.com"}
	created := must1(u.createUsers(background, slices.Repeat([]fields{long}, 10_000))).texts("user_ids")
	all := u.allUsers(background)
	var ids []string
	for {
		user, err := all.receive()
		if err == io.EOF {
			break
		}
		must(err)
		ids = append(ids, user.text("id"))
		if len(ids)%1_000 == 0 {
			time.Sleep(50 * time.Millisecond)
			ctx, cancel := context.WithTimeout(background, 5*time.Second)
			must1(u.call(ctx, "CreateUser", alice))
			cancel()
		}
	}
	check(slices.IsSorted(ids) && isSubset(created, ids), "users are missing or out of order")
}

func manyCalls(u users) {
	ids := make([]string, 1_000)
	var calls sync.WaitGroup
	for n := range ids {
		calls.Go(func() {
			if user, err := u.call(background, "CreateUser", alice); err == nil {
				ids[n] = user.text("id")
			}
		})
	}
	calls.Wait()
	slices.Sort(ids)
	check(ids[0] != "" && len(slices.Compact(ids)) == 1_000, "calls have failed, or have got the same answer")
}

// idleConversation is silent for longer than the least keepalive time that grpc-go grants.
func idleConversation(address string, pemFiles []string) {
	u := connect(address, pemFiles,
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second}))
	defer u.Close()
	user := must1(u.call(background, "CreateUser", alice))
	updates := u.stream(background, "UpdateUsers")
	must1(updates.ask(fields{"userId": user.text("id")}))
	time.Sleep(12 * time.Second)
	must1(updates.ask(fields{"userId": user.text("id")}))
	must(updates.CloseSend())
	_, err := updates.rest()
	check(err == io.EOF, "the conversation ended with %v", err)
}

// encodings counts compressed messages.
type encodings struct {
	gzip, smaller atomic.Int64
}

func (e *encodings) HandleRPC(_ context.Context, event stats.RPCStats) {
	switch event := event.(type) {
	case *stats.InHeader:
		if event.Compression == gzip.Name {
			e.gzip.Add(1)
		}
	case *stats.InPayload:
		if event.CompressedLength < event.Length {
			e.smaller.Add(1)
		}
	}
}

func (*encodings) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*encodings) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*encodings) HandleConn(context.Context, stats.ConnStats)                       {}
