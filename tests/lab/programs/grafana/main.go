// Grafana's backend with the two commands that the lab needs of it, in place of Grafana's own command package, which does not
// compile without generated code. prepare.py generates Initialize and InitializeForCLI.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/grafana/grafana/pkg/api"
	"github.com/grafana/grafana/pkg/server"
	"github.com/grafana/grafana/pkg/services/user"
	"github.com/grafana/grafana/pkg/setting"
	"github.com/grafana/grafana/pkg/util"
)

var version = "unknown"

const usage = "usage: grafana server|cli [-homepath FOLDER] [-config FILE] [admin reset-admin-password --password-from-stdin]"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "grafana:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet("grafana", flag.ContinueOnError)
	arguments := setting.CommandLineArgs{}
	flags.StringVar(&arguments.HomePath, "homepath", "", "Grafana's home folder")
	flags.StringVar(&arguments.Config, "config", "", "configuration file")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	switch os.Args[1] {
	case "server":
		arguments.Args = flags.Args()
		return serve(arguments)
	case "cli":
		if slices.Equal(flags.Args(), []string{"admin", "reset-admin-password", "--password-from-stdin"}) {
			return resetAdminPassword(arguments)
		}
	}
	return errors.New(usage)
}

func serve(arguments setting.CommandLineArgs) error {
	setting.BuildVersion, setting.BuildStamp = version, time.Now().Unix()
	grafana, err := Initialize(arguments, server.Options{Version: version}, api.ServerOptions{})
	if err != nil {
		return err
	}
	stop, done := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer done()
	go func() {
		<-stop.Done()
		ending, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := grafana.Shutdown(ending, "signal"); err != nil {
			fmt.Fprintln(os.Stderr, "grafana:", err)
		}
	}()
	return grafana.Run()
}

func resetAdminPassword(arguments setting.CommandLineArgs) error {
	password := bufio.NewScanner(os.Stdin)
	if !password.Scan() {
		return errors.New("no password on standard input")
	}
	runner, err := InitializeForCLI(arguments)
	if err != nil {
		return err
	}
	admin, err := runner.UserService.GetByID(context.Background(), &user.GetUserByIDQuery{ID: 1})
	if err != nil {
		return err
	}
	hashed, err := util.EncodePassword(password.Text(), admin.Salt)
	if err != nil {
		return err
	}
	return runner.UserService.ChangePassword(context.Background(), &user.ChangeUserPasswordCommand{UserID: admin.ID, NewPassword: hashed})
}
