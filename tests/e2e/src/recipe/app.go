// The application that the recipe for Go serves in the tests.
package main

import (
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

// The service runs in its release's directory, releases/<name>.
const shared = "../../shared"

func init() {
	text, err := os.ReadFile("release.txt")
	if err != nil {
		log.Fatal(err)
	}
	release := strings.TrimSpace(string(text))
	if release == "v3" {
		log.Fatal("the settings of v3 name a database that is not there")
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		if request.URL.Path == "/long" {
			// An export that takes as long as the test wants.
			if err := os.WriteFile(shared+"/long-has-begun", nil, 0o644); err != nil {
				log.Fatal(err)
			}
			for {
				if _, err := os.Stat(shared + "/long-may-end"); err == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		response.Header().Set("Content-Type", "text/plain")
		response.Header().Set("X-Release", release)
		response.Write([]byte("ok\n"))
	})
}
