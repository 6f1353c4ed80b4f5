import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;

/** Posts a file three times with the JDK's client in its default settings, the last time after a pause; prints the answers. */
class Post {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("Content-Type", "application/json")
            .header(arguments[1], arguments[2])
            .POST(HttpRequest.BodyPublishers.ofFile(Path.of(arguments[3])))
            .build();
        for (int turn = 0; turn < 3; turn++) {
            if (turn == 2) {
                Thread.sleep((long) (Double.parseDouble(arguments[4]) * 1000));
            }
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        }
    }
}
