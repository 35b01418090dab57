import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Sends JSON several times on one connection, as programs in Java do that ask for nothing else. */
class Ask {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient(); // prefers HTTP/2
        HttpRequest request = HttpRequest.newBuilder(URI.create(args[0]))
            .header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(args[1]))
            .build();
        for (int i = 0; i < Integer.parseInt(args[2]); i++) {
            HttpResponse<String> response =
                client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.body());
        }
    }
}
