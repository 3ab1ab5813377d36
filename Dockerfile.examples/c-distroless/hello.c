/* Says who runs it and what time it was in Tokyo when time began. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct passwd *me = getpwuid(getuid());
	time_t zero = 0;
	char then[32];

	if (!me)
		return 1;
	setenv("TZ", "Asia/Tokyo", 1);
	strftime(then, sizeof then, "%H:%M %Z", localtime(&zero));
	printf("hello from %s, it was %s\n", me->pw_name, then);
	return argc > 1 ? atoi(argv[1]) : 0;
}
