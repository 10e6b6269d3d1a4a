// Calls an agent over ttRPC, with containerd's client and Go's protobuf: a client that shares
// nothing with memreact.
//
//	ttrpc_client [-timeout 5s] [-at-once] ADDRESS SERVICE/METHOD[={"key":value}]...
//
// ADDRESS is unix:PATH or vsock:CID:PORT. Each call prints one line of JSON, in the order of the
// arguments, and the end status is 0 however the calls went: it is 1 when nobody could be called.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// The messages, as Kata's agent.proto and health.proto have them.
var protos = map[string]string{
	"Empty": ``,
	"MemAgentMemcgConfig": `
		optional bool disabled = 1
		optional bool swap = 2
		optional uint32 swappiness_max = 3
		optional uint64 period_secs = 4
		optional uint32 period_psi_percent_limit = 5
		optional uint32 eviction_psi_percent_limit = 6
		optional uint64 eviction_run_aging_count_min = 7`,
	"MemAgentCompactConfig": `
		optional bool disabled = 1
		optional uint64 period_secs = 2
		optional uint32 period_psi_percent_limit = 3
		optional uint32 compact_psi_percent_limit = 4
		optional int64 compact_sec_max = 5
		optional uint32 compact_order = 6
		optional uint64 compact_threshold = 7
		optional uint64 compact_force_times = 8`,
	"AddSwapRequest":      `repeated uint32 PCIPath = 1`,
	"AddSwapPathRequest":  `implicit string path = 1`,
	"CheckRequest":        `implicit string service = 1`,
	"HealthCheckResponse": `implicit int32 status = 1`,
	"VersionCheckResponse": `
		implicit string grpc_version = 1
		implicit string agent_version = 2`,
}

// What methods take and give; the others take and give Empty.
var methods = map[string][2]string{
	"grpc.AgentService/MemAgentMemcgSet":   {"MemAgentMemcgConfig", "Empty"},
	"grpc.AgentService/MemAgentCompactSet": {"MemAgentCompactConfig", "Empty"},
	"grpc.AgentService/AddSwap":            {"AddSwapRequest", "Empty"},
	"grpc.AgentService/AddSwapPath":        {"AddSwapPathRequest", "Empty"},
	"grpc.Health/Check":                    {"CheckRequest", "HealthCheckResponse"},
	"grpc.Health/Version":                  {"CheckRequest", "VersionCheckResponse"},
}

// message is one that containerd's client can carry: releases before 1.2 ask it to write itself,
// later ones ask for its reflection.
type message struct{ *dynamicpb.Message }

func (m message) Marshal() ([]byte, error)    { return proto.Marshal(m.Message) }
func (m message) Unmarshal(data []byte) error { return proto.Unmarshal(data, m.Message) }

// line is what one call prints.
type line struct {
	Call    string          `json:"call"`
	Code    uint32          `json:"code"`
	Message string          `json:"message"`
	Answer  json.RawMessage `json:"answer"`
}

func main() {
	timeout := flag.Duration("timeout", 10*time.Second, "how long each call may take")
	atOnce := flag.Bool("at-once", false, "have all calls in flight together")
	flag.Parse()
	if err := run(flag.Args(), *timeout, *atOnce); err != nil {
		fmt.Fprintln(os.Stderr, "ttrpc_client:", err)
		os.Exit(1)
	}
}

func run(words []string, timeout time.Duration, atOnce bool) error {
	if len(words) == 0 {
		return errors.New("whom to call? unix:PATH or vsock:CID:PORT")
	}
	file, err := described()
	if err != nil {
		return err
	}
	conn, err := dialled(words[0])
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	lines, failures := make([]line, len(words)-1), make([]error, len(words)-1)
	var calls sync.WaitGroup
	for i, word := range words[1:] {
		calls.Add(1)
		one := func(i int, word string) {
			defer calls.Done()
			lines[i], failures[i] = called(client, file, word, timeout)
		}
		if atOnce {
			go one(i, word)
		} else {
			one(i, word)
		}
	}
	calls.Wait()
	for i := range lines {
		if failures[i] != nil {
			return failures[i]
		}
		if err := json.NewEncoder(os.Stdout).Encode(lines[i]); err != nil {
			return err
		}
	}
	return nil
}

// called makes one call; an error is one that did not come as an answer.
func called(client *ttrpc.Client, file protoreflect.FileDescriptor, word string, timeout time.Duration) (line, error) {
	name, said, _ := strings.Cut(word, "=")
	service, method, found := strings.Cut(name, "/")
	if !found {
		return line{}, fmt.Errorf("%s: not SERVICE/METHOD", word)
	}
	kinds, known := methods[name]
	if !known {
		kinds = [2]string{"Empty", "Empty"}
	}
	request, response := made(file, kinds[0]), made(file, kinds[1])
	if said != "" {
		if err := protojson.Unmarshal([]byte(said), request.Message); err != nil {
			return line{}, fmt.Errorf("%s: %w", word, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := client.Call(ctx, service, method, request, response)
	result, answered := status.FromError(err)
	if !answered {
		return line{}, fmt.Errorf("%s: %w", word, err)
	}
	answer, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(response.Message)
	return line{name, uint32(result.Code()), result.Message(), answer}, err
}

func made(file protoreflect.FileDescriptor, name string) message {
	return message{dynamicpb.NewMessage(file.Messages().ByName(protoreflect.Name(name)))}
}

// described turns the table above into descriptors.
func described() (protoreflect.FileDescriptor, error) {
	file := &descriptorpb.FileDescriptorProto{
		Name:    proto.String("agent.proto"),
		Package: proto.String("grpc"),
		Syntax:  proto.String("proto3"),
	}
	for name, text := range protos {
		described := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for _, field := range strings.Split(strings.TrimSpace(text), "\n") {
			if words := strings.Fields(field); len(words) > 0 {
				addField(described, words[0], words[1], words[2], words[4])
			}
		}
		file.MessageType = append(file.MessageType, described)
	}
	return protodesc.NewFile(file, nil)
}

func addField(to *descriptorpb.DescriptorProto, presence, kind, name, number string) {
	n, err := strconv.Atoi(number)
	if err != nil {
		panic(err)
	}
	kinds := descriptorpb.FieldDescriptorProto_Type_value
	field := &descriptorpb.FieldDescriptorProto{
		Name:   proto.String(name),
		Number: proto.Int32(int32(n)),
		Type:   descriptorpb.FieldDescriptorProto_Type(kinds["TYPE_"+strings.ToUpper(kind)]).Enum(),
		Label:  descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	switch presence {
	case "repeated":
		field.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	case "optional":
		field.Proto3Optional = proto.Bool(true)
		field.OneofIndex = proto.Int32(int32(len(to.OneofDecl)))
		to.OneofDecl = append(to.OneofDecl, &descriptorpb.OneofDescriptorProto{
			Name: proto.String("_" + name),
		})
	}
	to.Field = append(to.Field, field)
}

// dialled connects to unix:PATH or vsock:CID:PORT.
func dialled(address string) (net.Conn, error) {
	scheme, rest, _ := strings.Cut(address, ":")
	switch scheme {
	case "unix":
		return net.Dial("unix", rest)
	case "vsock":
		var cid, port uint32
		if _, err := fmt.Sscanf(rest, "%d:%d", &cid, &port); err != nil {
			return nil, fmt.Errorf("%s: not vsock:CID:PORT", address)
		}
		return dialledVsock(cid, port)
	}
	return nil, fmt.Errorf("%s: neither unix:PATH nor vsock:CID:PORT", address)
}

// vsock is a connection that the net package has no name for.
type vsock struct{ *os.File }

func (vsock) LocalAddr() net.Addr  { return nil }
func (vsock) RemoteAddr() net.Addr { return nil }

func dialledVsock(cid, port uint32) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("vsock: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: port}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("vsock:%d:%d: %w", cid, port, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Go waits for it with epoll
		unix.Close(fd)
		return nil, err
	}
	return vsock{os.NewFile(uintptr(fd), "vsock")}, nil
}
