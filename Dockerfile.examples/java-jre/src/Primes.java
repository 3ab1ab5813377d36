import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** Prints the primes below its argument. */
public final class Primes {
    public static void main(String[] args) {
        int limit = Integer.parseInt(args[0]);
        System.out.println(IntStream.range(2, limit)
                .filter(n -> IntStream.range(2, n).noneMatch(d -> n % d == 0))
                .mapToObj(Integer::toString)
                .collect(Collectors.joining(" ")));
    }
}
